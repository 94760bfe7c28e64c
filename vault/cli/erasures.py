"""`erasures`: check a certificate, look for what an erasure left, and replay the journal.

`verify` needs no database and no network; with `--keys`, no vault and no settings either. `scan` reads the whole vault.
"""

from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
import rich_click as click

from vault.bootstrap import EVERYTHING
from vault.cli.audit import sentence, told
from vault.cli.opening import with_vault
from vault.cli.output import EXIT_FAILED, emit, json_option
from vault.config import load
from vault.crypto.services.chosen import service_of
from vault.errors import ConfigError, Invalid, Unreadable
from vault.flows.honour.scanned import scan_erasure
from vault.flows.replay import Replayed
from vault.flows.residue.verdict import Report
from vault.flows.vault import Vault
from vault.flows.wipe import wipe_now
from vault.keys import names
from vault.keys.keyring import Keyring
from vault.keys.keystore import KeyStore
from vault.rights import certificate

MAX_BYTES: Final = 4 << 20  # a certificate of a thousand recipients has some hundred kilobytes
_Kind = TypeVar("_Kind", bound=msgspec.Struct)
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


class Certificate(msgspec.Struct, frozen=True):
    """A certificate as `GET /v1/requests/{id}/certificate` hands it out; members that it does not need may stand by."""

    document: dict[str, Any]
    signature: dict[str, str]
    salt: str | None = None


class PublicKey(msgspec.Struct, frozen=True):
    """One line of `/.well-known/profile-vault-keys.json`. `public` is hex."""

    use: str
    key_id: str
    public: str


class PublicKeys(msgspec.Struct, frozen=True):
    """The whole page."""

    keys: list[PublicKey]


@click.group()
def erasures() -> None:
    """Look for what an erasure left; check its certificate without the vault; replay the journal."""


@erasures.command("replay")
@json_option
@click.pass_context
def replay_(ctx: click.Context) -> None:
    """Compare the journal with the database, and take away again what a restored or promoted database brought back.

    \b
    Example:
      profile-vault erasures replay

    Every process that has the root key, or serves the desk, does this when it starts, before it serves; the others do not
    start until it was done. It only lowers: what was granted since is asked for again. Twice is harmless.
    """

    async def journey(vault: Vault) -> Replayed:
        found: Replayed = vault.replayed
        return found

    done = with_vault(journey, create=False, role=EVERYTHING)
    emit(ctx, told(done), sentence(done))


@erasures.command()
@click.argument("request", type=click.UUID)
@click.option("--no-record", is_flag=True, help="Only look: leave the certificate as it is.")
@json_option
@click.pass_context
def scan(ctx: click.Context, request: UUID, *, no_record: bool) -> None:
    """Read every row and every file for what the erasure REQUEST may have left, by code that knows nothing of the eraser.

    Looks for the ids and tags of the erased person: from the case file while it lives, else from the journal. What may
    still know them is listed with its reason. The next revision of the certificate carries the outcome.

    \b
    Example:
      profile-vault erasures scan 0192f3a1-5b3c-7d2e-8f00-1234567890ab

    Ends with 1 if anything is left that nothing explains. Takes about a minute a gigabyte.
    """
    report, revision = with_vault(lambda vault: scan_erasure(vault, request, record=not no_record), create=False)
    emit(ctx, {**report.shown(), "revision": revision}, _told(report, revision))
    if report.residue:
        ctx.exit(EXIT_FAILED)


@erasures.command("wipe")
@json_option
@click.pass_context
def wipe_(ctx: click.Context) -> None:
    """Take what erasures deleted off the disk now: vacuum every table, and write over the database's log of writes.

    The worker does it within a day of an erasure, if the database lets it: see /readyz and the doctor. Backups and archives of
    that log are not touched.

    \b
    Example:
      profile-vault erasures wipe
    """
    done = with_vault(wipe_now, create=False)
    if done.segments:
        log = f"{done.segments} segments of the log of writes were written over."
    else:
        log = "This process may not change the log's segments (pg_checkpoint, pg_switch_wal): the server does in time."
    keys = "The wrapped keys were written anew."
    if not done.rewritten:
        keys = (
            "The wrapped keys were NOT written anew: too many, or in use; in a quiet hour: VACUUM FULL keys.subject_key"
        )
    data = {"tables": done.tables, "keys_rewritten": done.rewritten, "segments": done.segments}
    emit(ctx, data, f"{done.tables} tables were vacuumed. {keys} {log}")


def _told(report: Report, revision: int | None) -> str:
    at = report.looked_at
    kinds = [f"{n} {kind.replace('_', ' ')}" for kind, n in report.looked_for.items() if kind != "known_from"]
    lines = [
        f"Looked for {', '.join(kinds)}, known from the {report.looked_for['known_from']}.",
        f"Read {at['tables']} tables ({at['columns']} columns, {at['bytes']:,} bytes) and {at['files']} files.",
    ]
    lines += [f"  LEFT    {one.store}: {one.rows}" for one in report.residue]
    lines += [f"  remains {one.store}: {one.rows} ({one.why})" for one in report.found if not one.residue]
    lines += [f"  not looked at: {place} ({why})" for place, why in report.not_looked_at]
    lines.append("SOMETHING IS LEFT: see above." if report.residue else "Nothing is left that should not be.")
    if revision is not None:
        lines.append(f"Revision {revision} of the certificate says so.")
    return "\n".join(lines)


@erasures.command()
@click.argument("file", type=_FILE)
@click.option(
    "--keys",
    "keys_file",
    type=_FILE,
    help="The saved /.well-known/profile-vault-keys.json. Left out: the key store of this machine's vault.",
)
@click.option("--about", help="Also check whom it is about: an identifier kind, as `email`; asks for the value.")
@click.option("--salt", help="The salt that the person was given, if it is not in FILE.")
@json_option
@click.pass_context
def verify(ctx: click.Context, file: Path, keys_file: Path | None, about: str | None, salt: str | None) -> None:
    """Check the signature of an erasure certificate, offline, and say what it states.

    \b
    Example:
      curl -s http://127.0.0.1:8000/.well-known/profile-vault-keys.json > keys.json
      profile-vault erasures verify certificate.json --keys keys.json --about email

    Ends with 1 if the signature does not hold, or if it is not about that person. What recipients state, and what is
    still due, the signature cannot make true: it says that the vault said so.
    """
    found = _read(file, Certificate)
    _check(found, _own_keys() if keys_file is None else _read(keys_file, PublicKeys))
    answer = _summary(found.document)
    if about is not None:
        value = click.prompt(f"Value of {about}", hide_input=True, err=True)
        answer["about"] = _is_about(found, salt, about, value)
    emit(ctx, answer, _sentences(answer))
    if answer.get("about") is False:
        ctx.exit(EXIT_FAILED)


def _own_keys() -> PublicKeys:
    """The public keys of the vault that the settings name, from its key store alone. Raises Invalid, Unavailable."""
    try:
        settings = load()
        service = service_of(settings) if settings.keyring.is_dir() else None
    except ConfigError:
        service = None
    if service is None:
        raise Invalid(
            "There is no vault here to check it with; give --keys: the saved /.well-known/profile-vault-keys.json",
            code="no_keys",
        )
    keyring = Keyring(KeyStore(settings.keyring, service))
    keyring.open((names.signing("*"),))
    return msgspec.convert({"keys": keyring.public_keys()}, PublicKeys)


def _read(path: Path, kind: type[_Kind]) -> _Kind:
    with path.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise Invalid("The file is over 4 MB: it is no certificate and no page of keys.")
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Invalid("A file is not what the vault hands out; save the whole answer, as JSON.") from None


def _check(found: Certificate, published: PublicKeys) -> None:
    wanted = found.signature.get("key_id")
    for key in published.keys:
        if key.use == certificate.USE and key.key_id == wanted:
            try:
                certificate.verify(found.document, found.signature, bytes.fromhex(key.public))
            except (Unreadable, ValueError):
                raise Invalid(
                    "The signature does not hold: this is not what the vault signed.", code="bad_signature"
                ) from None
            return
    raise Invalid("The page of keys does not hold the key that signed this.", code="unknown_key")


def _is_about(found: Certificate, salt: str | None, kind: str, value: str) -> bool:
    try:
        known = bytes.fromhex(salt or found.salt or "")
    except ValueError:
        raise Invalid("A salt is hex digits.", code="bad_salt") from None
    if not known:
        raise Invalid("Give the salt that the person was given, with --salt.", code="no_salt")
    # the vault's normal form of an address is lower-case; other kinds are taken as they are
    forms = {value.strip(), value.strip().lower()}
    return any(certificate.names(found.document, known, kind, form.encode()) == "about" for form in forms)


def _summary(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "signature": "holds",
        **{
            name: document.get(name)
            for name in ("request", "revision", "destroyed_at", "stores", "whole_scan", "stated", "due", "kept")
        },
    }


def _sentences(answer: dict[str, Any]) -> str:
    lines = [
        f"The signature holds: request {answer['request']}, revision {answer['revision']}.",
        f"Keys destroyed at {answer['destroyed_at']}; from then on nothing of this person opened.",
    ]
    lines += [f"  {one['store']}: {one['rows']} rows destroyed (scan: {one['scan']})" for one in answer["stores"]]
    if answer["whole_scan"] is not None:
        left = len(answer["whole_scan"]["residue"])
        lines.append(f"  everything read on {answer['whole_scan']['at']}: {left or 'nothing'} left")
    lines += [f"  {one['recipient']} states that it deleted, on {one['at']}" for one in answer["stated"]]
    lines += [f"  {one['recipient']} has not answered; due on {one['due_on']}" for one in answer["due"]]
    lines += [f"  kept for {one['purpose']} until {one['until']}: {one['ground']}" for one in answer["kept"]]
    if "about" in answer:
        lines.append("It is about this person." if answer["about"] else "It is NOT about this person.")
    return "\n".join(lines)
