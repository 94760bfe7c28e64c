"""Who asks, and the names of what staff may do. Rights are written `audience:resource:act`; nowhere else do they stand as text."""

from enum import StrEnum
from typing import Literal

import msgspec

ActorKind = Literal["staff", "source", "destination", "operator", "subject"]


class Actor(msgspec.Struct, frozen=True):
    """Whoever asks. `id` is a random id or a catalogue name, never personal data; `role` is for staff only."""

    kind: ActorKind
    id: str
    role: str | None = None

    @property
    def label(self) -> str:
        """How the audit log names the actor: `staff:0192…`, `destination:warehouse`."""
        return f"{self.kind}:{self.id}"


class Right(StrEnum):
    """Everything that a role can be allowed to do. A right no rule gives is given to no one."""

    SUBJECT_FIND = "officer:subject:find"
    REQUEST_OPEN = "officer:request:open"
    REQUEST_READ = "officer:request:read"
    ARCHIVE_READ = "officer:archive:read"
    CERTIFICATE_READ = "officer:certificate:read"
    CONSENTS_READ = "officer:consents:read"
    DISCLOSURES_READ = "officer:disclosures:read"
    DROPPED_READ = "operator:dropped:read"
    POLICY_READ = "operator:policy:read"
    KEYS_READ = "operator:keys:read"
    AUDIT_READ = "auditor:audit:read"
    PROFILE_READ = "support:profile:read"
