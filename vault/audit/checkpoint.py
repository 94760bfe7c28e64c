"""Signed heads of the log, as c2sp.org/tlog-checkpoint and signed-note write them. Pure. docs/formats/checkpoint.md."""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from vault.crypto.signing import PUBLIC_BYTES, SIGNATURE_BYTES, Signer, verify
from vault.errors import Conflict, Unreadable
from vault.merkle import HASH_BYTES, verify_consistency

USE: Final = "audit"  # the signing key's use
ED25519: Final = b"\x01"  # signature type of signed-note
KEY_ID_BYTES: Final = 4
NOTE_LIMIT: Final = 16384  # bytes; room for the 16 signatures that a verifier must accept
_SIGNATURE: Final = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+=*)")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class Checkpoint(msgspec.Struct, frozen=True):
    """A head: which log, how many leaves, and the root over them."""

    origin: str
    size: int
    root: bytes

    def text(self) -> bytes:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()


def origin_of(log_id: str) -> str:
    """The name of a log, and of the key that signs it."""
    return f"profile-vault/audit/{log_id}"


def key_id(name: str, public: bytes) -> bytes:
    """4 bytes by which a signature line names its key."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public).digest()[:KEY_ID_BYTES]


def verifier_key(name: str, public: bytes) -> str:
    """The public key as signed-note's tools take it."""
    return f"{name}+{key_id(name, public).hex()}+{base64.b64encode(ED25519 + public).decode()}"


def sign(checkpoint: Checkpoint, signer: Signer) -> str:
    """The signed note."""
    text = checkpoint.text()
    name = checkpoint.origin
    line = base64.b64encode(key_id(name, signer.public) + signer.sign(text)).decode()
    return f"{text.decode()}\n— {name} {line}\n"


def read(note: str, publics: Sequence[bytes], origin: str) -> Checkpoint:
    """The checkpoint of a note that one of these keys signed for this log. Lines of unknown signers are passed over.

    Raises `Unreadable` for anything else.
    """
    text, signatures = _split(note)
    checkpoint = _parse(text)
    if checkpoint.origin != origin:
        raise Unreadable
    for public in publics:
        known = key_id(origin, public) if len(public) == PUBLIC_BYTES else b""
        for name, blob in signatures:
            if name == origin and blob[:KEY_ID_BYTES] == known and len(blob) == KEY_ID_BYTES + SIGNATURE_BYTES:
                verify(public, text.encode(), blob[KEY_ID_BYTES:])
                return checkpoint
    raise Unreadable


def check_follows(older: Checkpoint, newer: Checkpoint, proof: Sequence[bytes]) -> None:
    """What a witness asks before it takes a new head: the same log, not shorter, and every old leaf still in its place.

    Raises `Conflict` for a log that was cut or split (threat F2), `Unreadable` for a proof that shows nothing.
    """
    if newer.origin != older.origin:
        raise Unreadable
    if newer.size < older.size or (newer.size == older.size and newer.root != older.root):
        raise Conflict("the log was cut or split", code="log_split")
    verify_consistency(older.size, newer.size, proof, older.root, newer.root)


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    text, gap, rest = note.partition("\n\n")
    if len(note) > NOTE_LIMIT or not gap or not rest.endswith("\n"):
        raise Unreadable
    signatures = []
    for line in rest[:-1].split("\n"):
        found = _SIGNATURE.fullmatch(line)
        if not found:
            raise Unreadable
        signatures.append((found[1], _base64(found[2])))
    return text + "\n", signatures


def _parse(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or not lines[0] or not _SIZE.fullmatch(lines[1]):  # three lines and what follows the last
        raise Unreadable
    root = _base64(lines[2])
    if len(root) != HASH_BYTES:
        raise Unreadable
    return Checkpoint(lines[0], int(lines[1]), root)


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable from None
    if base64.b64encode(data).decode() != text:  # spare bits: two texts for the same bytes
        raise Unreadable
    return data
