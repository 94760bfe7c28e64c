"""Settings of the key service: which one, and how it is reached. Read with all others by `vault.config`; secrets stand in files."""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import msgspec

from vault.errors import ConfigError

# The service's own address: what it answers is believed, so nobody between may speak for it. In the clear on loopback only.
_SERVICE: Final = re.compile(
    r"https://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?/?"
    r"|http://(?:127(?:\.[0-9]{1,3}){3}|localhost|\[::1\])(?::[0-9]{1,5})?/?"
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MOUNT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(?:/[A-Za-z0-9][A-Za-z0-9_-]{0,63}){0,3}")
KMS_DAYS: Final = (7, 7, 30)  # default, least, most: KMS takes no others
# kind -> (settings that it needs, those that it may have)
SERVICES: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "local": ((), ()),
    "awskms": (("kms_region",), ("kms_endpoint", "kms_deletion_days", "key_prefix")),
    "transit": (("transit_url", "transit_token_file"), ("transit_mount", "transit_ca_file", "key_prefix")),
    "pkcs11": (("pkcs11_module", "pkcs11_token", "pkcs11_pin_file"), ("key_prefix",)),
}


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which key service, and how it is reached. Secrets stand in files; here are their paths."""

    kind: str = "local"
    prefix: str = "profile-vault"
    transit_url: str = ""
    transit_mount: str = "transit"
    transit_token_file: Path | None = None
    transit_ca_file: Path | None = None
    kms_region: str = ""
    kms_endpoint: str | None = None
    kms_deletion_days: int = KMS_DAYS[0]
    pkcs11_module: Path | None = None
    pkcs11_token: str = ""
    pkcs11_pin_file: Path | None = None

    def __repr__(self) -> str:
        return f"ServiceSettings({self.kind})"


def service_in(given: Mapping[str, Any]) -> ServiceSettings:
    """Raises `ConfigError` also for what another service needs: a vault that seals elsewhere than meant must not start."""
    kind = given.get("key_service") or "local"
    if kind not in SERVICES:
        raise ConfigError(f"key_service is one of {', '.join(SERVICES)}")
    needed, possible = SERVICES[kind]
    if missing := [name for name in needed if name not in given]:
        raise ConfigError(f"key_service = {kind} needs {', '.join(missing)}")
    of_services = {name for both in SERVICES.values() for names in both for name in names}
    if strange := sorted(of_services & given.keys() - {*needed, *possible}):
        raise ConfigError(
            f"{strange[0]} is not for key_service = {kind}; remove it, or name the service that it is for"
        )
    fields: dict[str, Any] = {
        name: given[name] for name in (*needed, *possible) if name in given and name != "key_prefix"
    }
    for name in ("transit_url", "kms_endpoint"):
        if name in fields:
            fields[name] = _service_url(name, fields[name])
    if "kms_deletion_days" in fields:
        fields["kms_deletion_days"] = whole_number("kms_deletion_days", fields["kms_deletion_days"], *KMS_DAYS[1:])
    for name, form in (("transit_mount", _MOUNT), ("kms_region", _NAME)):
        if name in fields and not form.fullmatch(fields[name]):
            raise ConfigError(f"{name} is a plain name of letters, digits and -")
    prefix = given.get("key_prefix") or "profile-vault"
    if not _NAME.fullmatch(prefix):
        raise ConfigError("key_prefix is a plain name of letters, digits, - and _")
    return ServiceSettings(kind=kind, prefix=prefix, **fields)


def _service_url(name: str, value: str) -> str:
    """Raises `ConfigError` for an address without TLS, with a user, path or query, or of the machine's own network (threats H1)."""
    found = _SERVICE.fullmatch(value)
    if found is None:
        raise ConfigError(
            f"{name} must be like https://keys.example.com:8200, with nothing behind; http on loopback only"
        )
    host = (found["host"] or "").strip("[]")
    try:
        address = ip_address(host)
    except ValueError:
        if host and (host.replace(".", "").isdigit() or host.lower().startswith("0x")):  # 2130706433, 0177.0.0.1
            raise ConfigError(f"{name} names its host in a form that readers take in different ways") from None
    else:
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            raise ConfigError(f"{name} names an address that no key service has")
    return value.rstrip("/")


def whole_number(name: str, value: int | str, least: int, most: int) -> int:
    """The number of a setting. Raises `ConfigError`."""
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise ConfigError(f"{name} must be a whole number from {least} to {most}")
    return int(text)
