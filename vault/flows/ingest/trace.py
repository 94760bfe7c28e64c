"""What ingest leaves in the audit log beside the choices themselves: checks that failed, grants that did not count."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from vault.audit.entry import Entry, Tag, salted
from vault.clock import Micros
from vault.consent.act import Ignored
from vault.flows.people.write import NO_GROUP, NOBODY, Fixed, Rows, audit_row
from vault.flows.vault import Vault
from vault.ids import random_bytes, uuid7
from vault.keys import names


class Voice(NamedTuple):
    """Who speaks, under which policy version, and when."""

    actor: str
    policy: int
    now: Micros
    key: bytes  # `journal`


def voice_of(vault: Vault, source_id: int, now: Micros) -> Voice:
    """A source that speaks now."""
    return Voice(f"source:{source_id}", vault.policy.number, now, vault.keyring.key(names.JOURNAL))


def grant_ignored(rows: Rows, voice: Voice, subject: UUID, ignored: Iterable[Ignored]) -> None:
    """A grant that did not count leaves a trace: a replay, a lie about time, or somebody who ranks too low (threats C1)."""
    reasons = sorted({one.reason for one in ignored})
    _note(rows, voice, Tag.CONSENT_GRANT_IGNORED, subject, {"reasons": reasons})


def check_failed(rows: Rows, voice: Voice, check: str, subject: UUID | None) -> None:
    """Something stored, or said before, does not agree with what is known."""
    _note(rows, voice, Tag.INTEGRITY_CHECK_FAILED, subject, {"check": check})


def _note(rows: Rows, voice: Voice, tag: Tag, subject: UUID | None, detail: Mapping[str, Any]) -> None:
    salt = random_bytes(16)
    entry = Entry(
        entry_id=uuid7(voice.now),
        at=voice.now,
        tag=tag,
        actor=voice.actor,
        policy=voice.policy,
        subject=salted(salt, subject.bytes) if subject is not None else None,
        detail=dict(detail),
    )
    rows.audit.append(audit_row(NOBODY, entry, voice.key))
    if subject is not None:
        rows.salts.append((Fixed(NO_GROUP, subject.hex), entry.entry_id, salt))
