"""The archives of a backup and their manifests: what is in which, how long it is kept, and that it is what was written.

Data, keys and journal are three files for three places. Whoever has only one of them opens nothing; what ends the reach of
an old data backup is the end of the keys that it needs, so keys are kept shortest, and the journal longest. Bytes:
docs/formats/backup.md. A manifest carries a code under the key `journal`, so that nobody without it makes one.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from vault import durable
from vault.canonical import canonical_json
from vault.clock import DAY, Micros, isoformat
from vault.crypto.mac import mac, same_code
from vault.errors import ConfigError, Conflict, Invalid

FORMAT: Final = 1
LABEL: Final = "backup/1"
MANIFEST_LIMIT: Final = 1 << 20
MEMBER_LIMIT: Final = 1 << 33
CHUNK: Final = 1 << 20
Kind = Literal["data", "keys", "journal"]
KINDS: Final[tuple[Kind, ...]] = ("data", "keys", "journal")
SUFFIX: Final[dict[Kind, str]] = {"data": "dump", "keys": "tar", "journal": "tar"}
_MEMBER: Final = re.compile(r"(?:policies/)?[A-Za-z0-9][A-Za-z0-9_.-]{0,150}")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands beside an archive. Times are text, for people."""

    format: int
    kind: Kind
    set: str  # the archives of one backup carry the same name
    made_at: str
    keep_until: str | None  # None: as long as the vault
    vault: str  # release that wrote it
    file: str
    bytes: int
    sha256: str
    about: dict[str, Any]  # of data: server, schema, incarnation, audit, journal, policy, keys
    mac: str = ""


def name_of(kind: Kind, name: str) -> str:
    """The file name of an archive."""
    return f"{name}-{kind}.{SUFFIX[kind]}"


def manifest_of(archive: Path) -> Path:
    """Where the manifest of an archive lies: beside it."""
    return archive.with_suffix(".json")


def end_of(made_at: Micros, days: int | None) -> str | None:
    """Until when an archive is kept."""
    return None if days is None else isoformat(Micros(made_at + days * DAY))


def write_manifest(archive: Path, manifest: Manifest, key: bytes) -> Manifest:
    """Writes it beside its archive, with its code. Last, so that an archive without manifest is none."""
    done = msgspec.structs.replace(manifest, mac=mac(key, LABEL, _body(manifest)).hex())
    durable.create(manifest_of(archive), msgspec.json.format(msgspec.json.encode(done)) + b"\n")
    return done


def read_manifest(archive: Path, kind: Kind) -> Manifest:
    """The manifest beside an archive. Raises `ConfigError` without one, `Invalid` (`bad_backup`) if it is of another."""
    path = manifest_of(archive)
    try:
        with path.open("rb") as file:
            manifest = msgspec.json.decode(file.read(MANIFEST_LIMIT), type=Manifest)
    except OSError:
        raise ConfigError(f"there is no manifest {path}: it belongs beside its archive") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Invalid("The manifest cannot be read.", code="bad_backup") from None
    if manifest.format != FORMAT or manifest.kind != kind:
        raise Invalid(f"This is no archive of {kind}.", code="bad_backup")
    size, digest = digest_of(archive)
    if (size, digest) != (manifest.bytes, manifest.sha256):
        raise Invalid("The archive is not the one that its manifest speaks of.", code="bad_backup")
    return manifest


def check_code(manifest: Manifest, key: bytes) -> None:
    """Raises `Invalid` (`bad_backup`) unless this vault wrote the manifest."""
    try:
        code = bytes.fromhex(manifest.mac)
    except ValueError:
        code = b""
    if not same_code(code, mac(key, LABEL, _body(manifest))):
        raise Invalid("The manifest was not written by this vault.", code="bad_backup")


def digest_of(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    size, digest = 0, hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                size += len(chunk)
                digest.update(chunk)
    except OSError:
        raise ConfigError(f"{path} cannot be read") from None
    return size, digest.hexdigest()


def pack(target: Path, files: Mapping[str, bytes], at: Micros) -> tuple[int, str]:
    """Writes a tar of these files, private and flushed; answers bytes and SHA-256."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, durable.FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode, entry.mtime = len(content), durable.FILE_MODE, at // 1_000_000
                tar.addfile(entry, io.BytesIO(content))
        file.flush()
        os.fsync(file.fileno())
    durable.sync_folder(target.parent)
    return digest_of(target)


def unpack(archive: Path) -> dict[str, bytes]:
    """The files of a tar by name. Raises `Invalid` (`bad_backup`) for any member that `pack` would not have written."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for entry in tar:
                opened = tar.extractfile(entry) if entry.isreg() and _MEMBER.fullmatch(entry.name) else None
                if opened is None or entry.name in found or entry.size > MEMBER_LIMIT:
                    raise Invalid("The archive holds what no backup holds.", code="bad_backup")
                found[entry.name] = opened.read()
    except (tarfile.TarError, OSError):
        raise Invalid("The archive cannot be read.", code="bad_backup") from None
    return found


def place(folder: Path, files: Mapping[str, bytes]) -> None:
    """Puts files into a private folder, each durably. Raises `Conflict` for one that is there."""
    durable.private_folder(folder)
    for name in sorted(files):
        path = folder / name
        if path.parent != folder:
            durable.private_folder(path.parent)
        try:
            durable.create(path, files[name])
        except FileExistsError:
            raise Conflict(f"{path} is there already: nothing is written over it.", code="not_empty") from None


def expired(folders: Iterable[Path], now: Micros) -> list[Path]:
    """Archives under these folders whose time is over, for their owner to delete. Reads manifests only."""
    text = isoformat(now)
    found = []
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            try:
                manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if manifest.keep_until is not None and manifest.keep_until <= text:
                found.append(path.with_name(manifest.file))
    return found


def _body(manifest: Manifest) -> bytes:
    return canonical_json(msgspec.to_builtins(msgspec.structs.replace(manifest, mac="")))
