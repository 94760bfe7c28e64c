"""One entry of the audit log: who did what under which policy, and digests of the rest. docs/formats/audit-entry.md.

Promises: a leaf holds ids, numbers, names from policies and digests only. A person appears as SHA-256 of a salt of this
entry and the subject id; the salt is kept with the person and erased with them, and the leaf then tells nothing (threat
F7). What could carry a personal value (free text, addresses, long runs of digits) is refused when the entry is made.
"""

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.canonical import framed
from vault.clock import Micros
from vault.errors import Unreadable

FORMAT: Final = "audit/1"
LEAF_LIMIT: Final = 8192  # bytes; a tile of c2sp.org/tlog-tiles could hold 65,535
SALT_BYTES: Final = 16

Value = str | int
Detail = Mapping[str, Value | list[Value]]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")
_WORD: Final = re.compile(r"[a-z0-9][a-z0-9_.:/-]{0,199}")
_RANDOM: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,128}")  # ids and digests
_DIGITS: Final = re.compile(r"[0-9](?:[.:/-]?[0-9]){6}")  # seven digits look like a telephone or order number
_encoder: Final = msgspec.json.Encoder(order="sorted")
_EXACT: Final = 2**53  # RFC 8785: integers that JSON holds exactly


class Tag(StrEnum):
    """What happened: room, thing, and what was done to it. Never renamed: they are in leaves."""

    AUDIT_LOG_READ = "audit:log:read"
    AUDIT_LOSS_ACCEPTED = "audit:loss:accepted"
    AUDIT_SALTS_FORGOTTEN = "audit:salts:forgotten"
    CONSENT_CHOICE_RECORDED = "consent:choice:recorded"
    CONSENT_GRANT_IGNORED = "consent:grant:ignored"
    DESTINATION_TOKEN_MADE = "destination:token:made"  # noqa: S105 - names, no secrets
    DESTINATION_TOKEN_REVOKED = "destination:token:revoked"  # noqa: S105 - names, no secrets
    DESTINATION_WEBHOOK_DISABLED = "destination:webhook:disabled"
    DESTINATION_WEBHOOK_SET = "destination:webhook:set"
    DISCLOSURE_ACKNOWLEDGEMENT_TAKEN = "disclosure:acknowledgement:taken"
    DISCLOSURE_LOOKUP_RELEASED = "disclosure:lookup:released"
    DISCLOSURE_LOOKUP_WITHHELD = "disclosure:lookup:withheld"
    DISCLOSURE_PAGE_RELEASED = "disclosure:page:released"
    DISCLOSURE_PAGE_WITHHELD = "disclosure:page:withheld"
    DISCLOSURE_REPORT_TAKEN = "disclosure:report:taken"
    IDENTITY_PROFILES_JOINED = "identity:profiles:joined"
    IDENTITY_PROFILES_PARTED = "identity:profiles:parted"
    INTEGRITY_CHECK_FAILED = "integrity:check:failed"
    JOURNAL_ENTRIES_REPLAYED = "journal:entries:replayed"
    KEY_BACKUP_MADE = "key:backup:made"
    KEY_EPOCH_DESTROYED = "key:epoch:destroyed"
    KEY_EPOCH_OPENED = "key:epoch:opened"
    KEY_EPOCH_REWRAPPED = "key:epoch:rewrapped"
    KEY_MOVE_BEGUN = "key:move:begun"
    KEY_MOVE_DONE = "key:move:done"
    KEY_SECRET_DESTROYED = "key:secret:destroyed"  # noqa: S105 - names, no secrets
    KEY_SECRET_MADE = "key:secret:made"  # noqa: S105 - names, no secrets
    POLICY_VERSION_APPLIED = "policy:version:applied"
    RIGHTS_ARCHIVE_FETCHED = "rights:archive:fetched"
    RIGHTS_ARCHIVE_MADE = "rights:archive:made"
    RIGHTS_CERTIFICATE_ISSUED = "rights:certificate:issued"
    RIGHTS_CERTIFICATE_READ = "rights:certificate:read"
    RIGHTS_KEYS_DESTROYED = "rights:keys:destroyed"
    RIGHTS_PROFILE_FENCED = "rights:profile:fenced"
    RIGHTS_REQUEST_COMPLETED = "rights:request:completed"
    RIGHTS_REQUEST_OPENED = "rights:request:opened"
    RIGHTS_REQUEST_READ = "rights:request:read"
    RIGHTS_ROWS_DELETED = "rights:rows:deleted"
    RIGHTS_VALUES_KEPT = "rights:values:kept"
    SOURCE_KEY_MADE = "source:key:made"
    SOURCE_KEY_DISABLED = "source:key:disabled"
    STAFF_MEMBER_ADDED = "staff:member:added"
    STAFF_MEMBER_DISABLED = "staff:member:disabled"
    STORAGE_ROWS_VOUCHED = "storage:rows:vouched"
    SUBJECT_CONSENTS_READ = "subject:consents:read"
    SUBJECT_DISCLOSURES_READ = "subject:disclosures:read"
    SUBJECT_PROFILE_FOUND = "subject:profile:found"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What a leaf says."""

    entry_id: UUID
    at: Micros
    tag: Tag
    actor: str  # `staff:ID`, `source:NUMBER`, `destination:NAME`, `operator`, `vault`
    policy: int  # policy_version.number; 0 before the first
    subject: str | None = None  # `salted` of the subject id
    detail: Detail = {}

    def leaf(self) -> bytes:
        """RFC 8785 bytes. Raises ValueError for an entry that could hold a personal value, or is too long."""
        _check_word(self.actor)
        for name, value in self.detail.items():
            if not _NAME.fullmatch(name):
                raise ValueError("an audit detail has a name of lower-case letters")
            for one in value if isinstance(value, list) else [value]:
                _check(one)
        if self.subject is not None and not re.fullmatch(r"[0-9a-f]{64}", self.subject):
            raise ValueError("a subject appears as `salted` only")
        document: dict[str, Any] = {
            "format": FORMAT,
            "entry_id": str(self.entry_id),
            "at": self.at,
            "tag": self.tag.value,
            "actor": self.actor,
            "policy": self.policy,
            "detail": dict(self.detail),
        }
        if self.subject is not None:
            document["subject"] = self.subject
        # What was checked above needs no escape and no rounding: sorted by their names, these are the bytes of RFC 8785.
        leaf = _encoder.encode(document)
        if len(leaf) > LEAF_LIMIT:
            raise ValueError("an audit entry is over its size limit; log a digest")
        return leaf


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    entry_id: UUID
    at: int
    tag: Tag
    actor: str
    policy: int
    detail: dict[str, str | int | list[str | int]]
    subject: str | None = None


def parse(leaf: bytes) -> Entry:
    """The entry of a leaf. Raises `Unreadable` for anything but the exact bytes that `Entry.leaf` writes."""
    try:
        found = msgspec.json.decode(leaf, type=_Document)
        entry = Entry(
            entry_id=found.entry_id,
            at=Micros(found.at),
            tag=found.tag,
            actor=found.actor,
            policy=found.policy,
            subject=found.subject,
            detail=found.detail,
        )
        same = found.format == FORMAT and entry.leaf() == leaf
    except (ValueError, msgspec.MsgspecError):
        same = False
    if not same:
        raise Unreadable
    return entry


def salted(salt: bytes, value: bytes) -> str:
    """64 hex digits: SHA-256 over salt and value, framed. Without the salt nobody can tell whose id it was."""
    return hashlib.sha256(framed(salt, value)).hexdigest()


def _check(value: object) -> None:
    if isinstance(value, str):
        _check_word(value)
    elif not isinstance(value, int) or not -_EXACT < value < _EXACT:
        raise ValueError("an audit detail is text, a whole number, or a list of them")


def _check_word(text: str) -> None:
    """A name, id or digest: one line, no address, nothing that looks like a number of somebody."""
    if not _WORD.fullmatch(text) or _DIGITS.search(_RANDOM.sub("", text)):
        raise ValueError("an audit entry holds names, ids and digests only")
