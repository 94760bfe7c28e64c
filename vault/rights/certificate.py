"""The certificate of an erasure: what was destroyed here, what recipients state, what is due, what law keeps, and why.

A certificate is a list of numbered revisions; each is a JSON document, signed as RFC 8785 bytes with Ed25519, and a leaf
of the audit log. It rounds nothing up: how far the independent scan looked stands there, who has not answered is `due`.
The person is in it as salted digests only, so that whoever holds the salt can check whom it is about and nobody else can.
Pure. Format and vector: docs/formats/certificate.md.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from vault.canonical import canonical_json, framed
from vault.clock import Micros, isoformat
from vault.crypto.signing import Signer, verify_document
from vault.errors import Unreadable

FORMAT: Final = "profile-vault/certificate/1"
USE: Final = "certificate"
_PERSON: Final = b"certificate-person/1"

# What a vault can honestly say before an epoch was rotated: it does not know who copied the schema `keys` when.
BACKUPS: Final = (
    "Values in a backup open only with the person's wrapped keys, which lie in the database schema `keys`, and the epoch "
    "keys, which lie in the key store. A backup that holds that schema and was made before the erasure can be opened for "
    "as long as it and the epoch keys are kept. Random ids, purpose masks, times and sizes in backups stay until they expire."
)
# And once every epoch of that time is destroyed.
ROTATED: Final = (
    "Values in a backup open only with the person's wrapped keys and the epoch keys. Every epoch key that there was at the "
    "erasure is destroyed; from the date given the key service's own key, and every copy of the key store that was told to the "
    "vault, are gone too. Random ids, purpose masks, times and sizes in backups stay until they expire."
)


class Store(msgspec.Struct, frozen=True):
    """One kind of record that was looked for, and how many were destroyed."""

    name: str
    rows: int


class Answer(msgspec.Struct, frozen=True):
    """Where one recipient stands. `acknowledged_at` is its own word; we cannot look into its systems."""

    name: str
    recipient: str  # legal name
    country: str
    deadline: Micros
    told: bool = False
    told_at: Micros | None = None  # None where it is not on record
    acknowledged_at: Micros | None = None


class Kept(msgspec.Struct, frozen=True):
    """What is kept for one purpose, on which exception of GDPR Art. 17(3), and until when."""

    purpose: str
    legal_basis: str
    ground: str
    fields: tuple[str, ...]
    records: int
    until: Micros | None


class Scan(msgspec.Struct, frozen=True):
    """What the independent reader found: a word for each store, and all of it (docs/formats/certificate.md)."""

    word: str
    whole: dict[str, Any]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision says."""

    request_id: UUID
    revision: int
    issued_at: Micros
    received_at: Micros
    destroyed_at: Micros  # from here nothing opened any more
    entry_id: UUID  # this revision's leaf in the audit log
    previous: bytes | None  # SHA-256 of the previous revision's document
    persons: tuple[str, ...]  # digests, hex, rising
    members: int  # subjects that were one person
    stores: tuple[Store, ...]
    answers: tuple[Answer, ...]
    kept: tuple[Kept, ...]
    tombstones: int
    late_until: Micros  # events said before are dropped as late
    rollback_protection: str
    scan: Scan
    whole_scan: dict[str, Any] | None = None  # what `erasures scan` recorded last
    backups_unreadable_after: Micros | None = None


def person_digest(salt: bytes, kind: str, normal: bytes) -> str:
    """How one identifier of the person stands in the certificate: hex of SHA-256 over salt, kind and normal form."""
    return hashlib.sha256(framed(_PERSON, salt, kind.encode(), normal)).hexdigest()


def document_of(facts: Facts) -> dict[str, Any]:
    """The document of a revision, ready to be signed."""
    at = facts.issued_at
    return {
        "format": FORMAT,
        "request": str(facts.request_id),
        "revision": facts.revision,
        "previous": facts.previous.hex() if facts.previous is not None else None,
        "issued_at": isoformat(at),
        "received_at": isoformat(facts.received_at),
        "destroyed_at": isoformat(facts.destroyed_at),
        "audit_entry": str(facts.entry_id),
        "person": {"digest": "SHA-256(salt, kind, identifier)", "digests": sorted(facts.persons)},
        "subjects": facts.members,
        "stores": [{"store": one.name, "rows": one.rows, "scan": facts.scan.word} for one in facts.stores],
        "scan": facts.scan.whole,
        "whole_scan": facts.whole_scan,
        "stated": [_answer(one, at) for one in facts.answers if one.acknowledged_at is not None],
        "due": [_answer(one, at) for one in facts.answers if one.acknowledged_at is None],
        "kept": [_kept(one) for one in facts.kept],
        "late": {"identifiers": facts.tombstones, "said_before": isoformat(facts.late_until)},
        "rollback_protection": facts.rollback_protection,
        "backups": _backups(facts.backups_unreadable_after),
    }


def _backups(unreadable_after: Micros | None) -> dict[str, Any]:
    statement = BACKUPS if unreadable_after is None else ROTATED
    return {"unreadable_after": _time(unreadable_after), "statement": statement}


def rescanned(
    before: Mapping[str, Any],
    issued_at: Micros,
    entry_id: UUID,
    whole_scan: Mapping[str, Any],
    backups_unreadable_after: Micros | None = None,
) -> dict[str, Any]:
    """The revision after `before` that says the same of the erasure, what a scan of everything found, and how backups stand."""
    return {
        **before,
        "revision": before["revision"] + 1,
        "previous": digest_of(before).hex(),
        "issued_at": isoformat(issued_at),
        "audit_entry": str(entry_id),
        "whole_scan": dict(whole_scan),
        "backups": _backups(backups_unreadable_after),
    }


def digest_of(document: Mapping[str, Any]) -> bytes:
    """SHA-256 of a document's RFC 8785 bytes: what the next revision and the audit leaf name it by."""
    return hashlib.sha256(canonical_json(dict(document))).digest()


def sign(signer: Signer, document: Mapping[str, Any]) -> bytes:
    """The stored form: RFC 8785 bytes of {document, signature}."""
    return canonical_json({"document": dict(document), "signature": signer.sign_document(document)})


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate as it is stored and handed out."""

    document: dict[str, Any]
    signature: dict[str, str]


def parse(stored: bytes) -> Signed:
    """The two parts of a certificate, not yet verified. Raises `Unreadable`."""
    try:
        return msgspec.json.decode(stored, type=Signed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unreadable from None


def verify(document: Mapping[str, Any], signature: Mapping[str, Any], public: bytes) -> None:
    """Raises `Unreadable` unless the document is a certificate, signed for that use with this key. Needs no vault."""
    verify_document(public, document, signature, USE)
    if document.get("format") != FORMAT:
        raise Unreadable


def verify_chain(revisions: Sequence[Signed], public: bytes) -> None:
    """Raises `Unreadable` unless these are revisions 1, 2, … of one certificate, each naming the one before."""
    before: Mapping[str, Any] | None = None
    for number, one in enumerate(revisions, start=1):
        verify(one.document, one.signature, public)
        previous = digest_of(before).hex() if before is not None else None
        if one.document.get("revision") != number or one.document.get("previous") != previous:
            raise Unreadable
        if before is not None and one.document.get("request") != before.get("request"):
            raise Unreadable
        before = one.document


Finding = Literal["about", "not_about"]


def names(document: Mapping[str, Any], salt: bytes, kind: str, normal: bytes) -> Finding:
    """Is this certificate about the person with this identifier? For whoever was given the salt."""
    digests: Iterable[Any] = document.get("person", {}).get("digests", ())
    return "about" if person_digest(salt, kind, normal) in digests else "not_about"


def _answer(one: Answer, now: Micros) -> dict[str, Any]:
    said: dict[str, Any] = {
        "destination": one.name,
        "recipient": one.recipient,
        "country": one.country,
        "told": one.told,
        "told_at": _time(one.told_at),
    }
    if one.acknowledged_at is not None:
        return {**said, "states": "deleted", "at": isoformat(one.acknowledged_at)}
    return {**said, "due_on": isoformat(one.deadline), "overdue": now >= one.deadline}


def _kept(one: Kept) -> dict[str, Any]:
    return {
        "purpose": one.purpose,
        "legal_basis": one.legal_basis,
        "ground": one.ground,
        "fields": list(one.fields),
        "records": one.records,
        "until": _time(one.until),
    }


def _time(at: Micros | None) -> str | None:
    return None if at is None else isoformat(at)
