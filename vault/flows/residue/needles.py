"""What an erased person would be known by: ids and tags, and every form in which they could have been written down.

They come from the case file while it lives, else from the journal, which outlives it and names the members only. No value
of the person is among them: those cannot be looked for by anyone who does not know them (`make forensics` plants its own).
"""

import base64
import re
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec

from vault.catalogue.load import Catalogue
from vault.destinations.pseudonym import person_key, pseudonym
from vault.journal.narrowing import Erasure
from vault.rights.casefile import CaseFile

CASE: Final = "case file"
JOURNAL: Final = "journal"
SHORTEST: Final = 16  # bytes of an id or a tag: none of these turns up by chance

# Hex, base64 and the like stand among printable bytes only; sealed bytes have few long runs of those.
_TEXT: Final = re.compile(rb"[0-9A-Za-z+/_=-]{16,}")


class Needles(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for. `source` says where it is known from."""

    source: str
    subjects: tuple[UUID, ...]
    tags: tuple[bytes, ...] = ()
    compartments: tuple[bytes, ...] = ()
    event_keys: tuple[bytes, ...] = ()  # looked for as whole columns only: there may be thousands
    pseudonyms: tuple[str, ...] = ()

    @property
    def counted(self) -> dict[str, int | str]:
        """How many of each kind, for the report."""
        return {
            "known_from": self.source,
            "subjects": len(self.subjects),
            "tags": len(self.tags),
            "compartments": len(self.compartments),
            "event_keys": len(self.event_keys),
            "pseudonyms": len(self.pseudonyms),
        }

    def __repr__(self) -> str:
        return f"Needles({self.source})"


def of_case(case: CaseFile) -> Needles:
    """What the case file says."""
    return Needles(
        source=CASE,
        subjects=case.members,
        tags=case.tags,
        compartments=case.compartments,
        event_keys=case.event_keys,
        pseudonyms=tuple(name for one in case.recipients for name in one.ids),
    )


def of_journal(erasure: Erasure) -> Needles:
    """What the journal says, once there is no case file any more."""
    return Needles(source=JOURNAL, subjects=erasure.members)


def with_pseudonyms(needles: Needles, catalogue: Catalogue, key: bytes) -> Needles:
    """And the names by which every destination of the policies knew, or would have known, each member."""
    names = {
        pseudonym(person_key(key, number), subject)
        for number in catalogue.contracts_by_number
        for subject in needles.subjects
    }
    return msgspec.structs.replace(needles, pseudonyms=tuple(sorted(names | set(needles.pseudonyms))))


class Pattern:
    """Finds any of the needles inside bytes, in every form that this vault or a program beside it would write."""

    def __init__(self, needles: Needles) -> None:
        """Event keys are left out: see `Needles`."""
        sixteen = [one.bytes for one in needles.subjects] + [*needles.tags, *needles.compartments]
        self._raw = sorted({one for one in sixteen if len(one) >= SHORTEST})
        texts: set[bytes] = {name.encode() for name in needles.pseudonyms}
        for subject in needles.subjects:
            texts |= {str(subject).encode(), str(subject).upper().encode()}
        for one in self._raw:
            texts |= {one.hex().encode(), one.hex().upper().encode(), *_base64(one)}
        self._texts = sorted(texts)
        self.longest = max(map(len, (*self._raw, *self._texts)), default=0)

    @property
    def every(self) -> list[bytes]:
        """All that `found` looks for."""
        return [*self._raw, *self._texts]

    def found(self, blob: bytes) -> bool:
        """Is any of them in there?"""
        if any(one in blob for one in self._raw):
            return True
        runs = b"\n".join(_TEXT.findall(blob))
        return any(one in runs for one in self._texts)

    def __repr__(self) -> str:
        return f"Pattern({len(self._raw)} needles)"


def _base64(needle: bytes) -> Iterable[bytes]:
    """The letters that only the needle decides, at each of three alignments, in both alphabets."""
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + needle)
        inner = whole[-(-shift * 8 // 6) : (shift + len(needle)) * 8 // 6]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))
