"""What a key service must allow one process, in the service's own words: a policy of OpenBao or Vault, of AWS IAM.

Promises: decrypting is allowed for the locks that the process opens, encrypting for those that it makes keys under while
it runs, nothing for any other; making and destroying the service's own keys for who prepares alone.
"""

import json
from collections.abc import Collection
from typing import Any, Final

from vault.errors import ConfigError
from vault.key_settings import ServiceSettings

MADE_IN_WORK: Final = frozenset(("case", "archive"))
"""Locks under which a process that opens them also makes keys: one for each request."""


def rules_for(service: ServiceSettings, opened: Collection[str], sealed: Collection[str], *, prepares: bool) -> str:
    """The text to give to the service. `sealed`: locks to seal under only. Raises `ConfigError` for one without such rules."""
    sealing = frozenset(opened) if prepares else MADE_IN_WORK & frozenset(opened)
    if service.kind == "transit":
        return _transit(service, sorted(opened), sorted(sealing | frozenset(sealed)), prepares=prepares)
    if service.kind == "awskms":
        return json.dumps(
            _aws(service, sorted(opened), sorted(sealing | frozenset(sealed)), prepares=prepares), indent=2
        )
    if service.kind == "pkcs11":
        raise ConfigError(
            "a token opens to its PIN as a whole: which keys a user of the module sees is set with the module's own tools"
        )
    raise ConfigError(
        "the local key service has no rules: `keys hand-out` writes the secrets of a process into a folder"
    )


def _transit(service: ServiceSettings, opened: list[str], sealing: list[str], *, prepares: bool) -> str:
    mount, prefix = service.transit_mount, service.prefix
    if prepares:
        lines = [_path(f"{mount}/{what}/{prefix}-*", "update") for what in ("decrypt", "encrypt")]
        return "\n".join([*lines, _path(f"{mount}/keys/{prefix}-*", "create", "read", "update")])
    lines = [_path(f"{mount}/decrypt/{prefix}-{lock}", "update") for lock in opened]
    for lock in sealing:
        lines += [_path(f"{mount}/encrypt/{prefix}-{lock}", "update"), _path(f"{mount}/keys/{prefix}-{lock}", "read")]
    return "\n".join(lines)


def _path(path: str, *capabilities: str) -> str:
    listed = ", ".join(f'"{one}"' for one in capabilities)
    return f'path "{path}" {{ capabilities = [{listed}] }}'


def _aws(service: ServiceSettings, opened: list[str], sealing: list[str], *, prepares: bool) -> dict[str, Any]:
    keys = f"arn:aws:kms:{service.kms_region}:*:key/*"
    aliases = f"arn:aws:kms:{service.kms_region}:*:alias/{service.prefix}-*"
    own = {"aws:ResourceTag/profile-vault": service.prefix}

    def tagged(name: str, actions: list[str], locks: list[str] | None) -> dict[str, Any]:
        condition = own if locks is None or prepares else {**own, "aws:ResourceTag/profile-vault-lock": locks}
        return {
            "Sid": name,
            "Effect": "Allow",
            "Action": actions,
            "Resource": keys,
            "Condition": {"StringEquals": condition},
        }

    statements = [tagged("Open", ["kms:Decrypt"], opened), tagged("Know", ["kms:DescribeKey"], None)]
    if sealing:
        statements.append(tagged("Seal", ["kms:Encrypt"], sealing))
    if prepares:
        statements += [
            tagged("Retire", ["kms:ScheduleKeyDeletion", "kms:CreateAlias", "kms:UpdateAlias"], None),
            {"Sid": "Name", "Effect": "Allow", "Action": ["kms:CreateAlias", "kms:UpdateAlias"], "Resource": aliases},
            {
                "Sid": "Make",
                "Effect": "Allow",
                "Action": ["kms:CreateKey", "kms:TagResource"],
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:RequestTag/profile-vault": service.prefix}},
            },
            {"Sid": "Prepare", "Effect": "Allow", "Action": ["kms:ListAliases"], "Resource": "*"},
        ]
    return {"Version": "2012-10-17", "Statement": statements}
