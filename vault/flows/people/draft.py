"""People in work: what one journey wants to change of a subject, kept in memory until the one statement writes it.

A draft opens compartments only as a writer or for computation, each with a permit of the gate. It knows no policy and
decides nothing: `decide` and `resolve` tell it what to do. Dull face: a draft never prints what it holds.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.catalogue.numbers import ACCUMULATORS, MEMBERSHIPS, bits
from vault.clock import Micros
from vault.consent.ledger import Authority, Choice, chain, pack_choice
from vault.consent.standing import Standing
from vault.errors import Unreadable
from vault.flows.people.attempt import Tools
from vault.flows.people.compartment import CompartmentDraft
from vault.flows.people.read import Stored
from vault.flows.people.write import Rows
from vault.keys.compartments import (
    MAX_GENERATION,
    Compartment,
    Opener,
    holdings_of,
    next_generation,
    pack_wraps,
    without,
)
from vault.profile.sealing import open_field, open_fields, seal_event, seal_field
from vault.profile.values import Directory, FieldHead, Provenance
from vault.state.record import Mark, State, digest, fresh, holdings

JOINT_FIELDS: Final = (ACCUMULATORS, MEMBERSHIPS)  # hold only while every purpose of their compartment does
EXPIRY: Final = 1  # due: a granted choice ends
SWEEP: Final = 2  # due: events whose keys are gone wait for removal


class LedgerNeeded(Exception):
    """A decision needs the ledger of this subject, which was not read."""

    def __init__(self, subject: UUID) -> None:
        self.subject = subject
        super().__init__()


class SubjectDraft:
    """One subject in work, and the owner of its rows."""

    __slots__ = (
        "_explicit",
        "_keys_row",
        "_made",
        "_newest",
        "_ready",
        "_standing",
        "_written",
        "altered",
        "before",
        "changed",
        "compartments",
        "destroyed",
        "events_added",
        "fields_changed",
        "fresh",
        "group",
        "hex",
        "new_choices",
        "removed_wraps",
        "state",
        "subject",
        "tags",
        "tools",
        "touched",
        "wraps_dirty",
    )

    def __init__(self, tools: Tools, subject: UUID, stored: Stored | None) -> None:
        """`stored` None makes a new subject, the root of a profile of its own."""
        self.tools = tools
        self.subject = subject
        self.hex = subject.hex
        self.before: State = stored.state if stored else fresh(subject)
        self.state: State = self.before
        self.group = 0
        self.altered = 0  # how often `alter` was called: what was derived from the state before may be out of date
        self.tags: dict[bytes, int] = {tag: kind for kind, tag in stored.tags} if stored else {}
        self._ready: Opener | None = None
        self._explicit: int | None = None  # of a ledger that was read and let go
        self._made: dict[int, int] = {}  # by purposes: the highest generation that this draft opened
        self.destroyed: list[tuple[int, int]] = []
        self.new_choices: list[Choice] = []
        self.removed_wraps: list[tuple[bytes, int]] = []
        self.fields_changed: set[int] = set()
        self._rest()
        if stored is None:
            self.fresh = self.touched = self.wraps_dirty = True
            self.changed = True  # something that destinations may see
        self._keys_row = stored.keys_row if stored else None
        self._standing: Standing | None = Standing() if stored is None or not stored.state.ledger_count else None
        marks = {(mark.purposes, mark.generation): mark for mark in self.state.compartments}
        rows = {(row.purposes, row.generation): row for row in stored.compartments} if stored else {}
        found: dict[tuple[int, int], CompartmentDraft] = {}
        for wrapped in stored.wrapped if stored else ():
            place = (wrapped.purposes, wrapped.generation)
            row = rows.pop(place, None)
            if row is not None and row.compartment_id != wrapped.compartment_id:
                raise Unreadable
            found[place] = CompartmentDraft(wrapped, row, marks.get(place))
        if rows:  # values whose keys are gone: no writer leaves such
            raise Unreadable
        self.compartments = dict(sorted(found.items()))  # always in this order: by purposes and generation
        # by purposes: the highest generation
        self._newest = {place[0]: draft for place, draft in self.compartments.items()}

    def __repr__(self) -> str:
        return f"SubjectDraft(fresh={self.fresh}, group={self.group})"

    @property
    def rows(self) -> Rows:
        """Where its rows go: those of the attempt."""
        return self.tools.rows

    # --- compartments and values ------------------------------------------------------------------------------------

    def alter(self, **changes: object) -> None:
        """Change masks, link or flags of the state; written with the rest."""
        self.state = msgspec.structs.replace(self.state, **changes)
        self.altered += 1
        self.touched = True

    def writable(self, purposes: int) -> CompartmentDraft:
        """The compartment of exactly these purposes that takes new values, opened; a new generation if none does."""
        draft = self._newest.get(purposes)
        if draft is not None and draft.whole and draft.opened is not None:
            return draft
        draft = self._taking(purposes)
        if draft is None:
            # The version of the keys row is above every generation that ever was, those destroyed too: their events may
            # still wait for the sweep, and must never meet a key that was not theirs.
            known = (self.state.keys_version, self._made.get(purposes, 0))
            generation = next_generation((one.wrapped for one in self.compartments.values()), known, purposes)
            if generation > MAX_GENERATION:
                raise Unreadable
            self._made[purposes] = generation
            wrapped, opened = self._opener.create(purposes, generation)
            draft = CompartmentDraft(wrapped, None, None)
            draft.opened = opened
            self._newest[purposes] = draft
            self.compartments = dict(sorted([*self.compartments.items(), ((purposes, generation), draft)]))
            self.wraps_dirty = self.touched = True
        self._open(draft)
        return draft

    def _taking(self, purposes: int) -> CompartmentDraft | None:
        """The compartment of exactly these purposes that takes new values: the newest, if no wrap was taken away."""
        draft = self._newest.get(purposes)
        # What is for `rights` alone, and was begun by another writer, cannot be opened here: then a new one is begun.
        fit = (
            draft is not None
            and draft.whole
            and (purposes or draft.opened or self._opener.way_into(draft.wrapped) is not None)
        )
        return draft if fit else None

    @property
    def _opener(self) -> Opener:
        """Derives keys; for this attempt only."""
        if self._ready is None:
            self._ready = Opener(self.tools.keyring, self.subject)
        return self._ready

    def _open(self, draft: CompartmentDraft) -> Compartment:
        if draft.opened is None:
            draft.opened = self._opener.open_any(draft.wrapped)
        return draft.opened

    def put(self, purposes: int, field: int, provenance: Provenance, plaintext: bytes) -> None:
        """Seal a value into the compartment of exactly these purposes. Keeps an older value out of the way of a newer."""
        draft = self.writable(purposes)
        before = draft.head(field)
        if before is not None and before[4:6] > provenance[2:]:  # authority, said at
            return
        self._put(draft, field, provenance, plaintext)

    def put_joint(self, purposes: int, field: int, provenance: Provenance, plaintext: bytes) -> None:
        """Seal a value that was made from the one before it: it replaces that one whatever its time."""
        self._put(self.writable(purposes), field, provenance, plaintext)

    def _put(self, draft: CompartmentDraft, field: int, provenance: Provenance, plaintext: bytes) -> None:
        draft.put(field, seal_field(self._open(draft), field, draft.version + 1, provenance, plaintext))
        self.fields_changed.add(field)
        self.touched = self.changed = True

    def put_again(self, draft: CompartmentDraft, field: int, plaintext: bytes) -> None:
        """Seal what is left of a value in the compartment where it lies. For taking something out, never for adding."""
        head = draft.head(field)
        if head is not None:
            self._put(draft, field, head.provenance, plaintext)

    def holding(self, purposes: int, field: int) -> CompartmentDraft | None:
        """The writable compartment of exactly these purposes, if it has the field already."""
        draft = self._taking(purposes)
        return draft if draft is not None and field in draft else None

    def get(self, purposes: int, field: int) -> bytes | None:
        """The value in the writable compartment of exactly these purposes, opened for computation; None if none."""
        draft = self._taking(purposes)
        return self.read(draft, field) if draft is not None else None

    def read(self, draft: CompartmentDraft, field: int) -> bytes | None:
        """One value opened for computation under a purpose that the compartment still holds."""
        entry = draft.entry(field)
        if entry is None or not draft.held:
            return None
        purpose = next(bits(draft.held))
        return open_field(self._open(draft), entry[0], entry[1], self.tools.permit(purpose))

    def copies(self, field: int) -> list[tuple[CompartmentDraft, FieldHead]]:
        """Every compartment that holds the field, and its head there."""
        return [(draft, head) for draft in self.compartments.values() if (head := draft.head(field)) is not None]

    def take_out(self, draft: CompartmentDraft, field: int) -> None:
        """Take a field out of one compartment."""
        if draft.drop(field):
            self.fields_changed.add(field)
            self.touched = self.changed = True

    def add_event(self, purposes: int, event_key: bytes, at: Micros, kind: int, plaintext: bytes) -> None:
        """Seal one part of an event into the compartment of exactly these purposes."""
        draft = self.writable(purposes)
        sealed = seal_event(self._open(draft), event_key, kind, plaintext)
        generation = draft.wrapped.generation
        self.rows.events.append((self, event_key, purposes, generation, at, self.tools.now, kind, sealed))
        self.events_added += 1
        self.touched = True

    def seen_by(self, purpose: int, fields: Iterable[int]) -> list[tuple[FieldHead, bytes]]:
        """These fields wherever the purpose still opens them, opened for computation."""
        wanted = tuple(fields)
        opened: list[tuple[FieldHead, bytes]] = []
        for draft in self.compartments.values():
            if draft.held >> purpose & 1:
                chosen = [entry for field in wanted if (entry := draft.entry(field)) is not None]
                if chosen:
                    opened.extend(open_fields(self._open(draft), chosen, self.tools.permit(purpose)))
        return opened

    # --- consent ----------------------------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """What the ledger comes to. Raises `LedgerNeeded` while it was not read."""
        if self._standing is None:
            raise LedgerNeeded(self.subject)
        return self._standing

    @standing.setter
    def standing(self, standing: Standing) -> None:
        self._standing = standing

    @property
    def explicit(self) -> int:
        """Mask of the purposes granted by an act. Raises `LedgerNeeded` while the ledger was never read."""
        if self._standing is not None or self._explicit is None:
            return self.standing.explicit
        return self._explicit

    def rank_of(self, purposes: int) -> int:
        """The highest rank of who refuses one of these purposes now; the highest there is, where the ledger was not read."""
        if self._standing is None:
            return Authority.PERSON
        return max((self._standing.of(purpose).rank for purpose in bits(purposes)), default=0)

    def add_choice(self, choice: Choice, proof: bytes | None = None) -> int:
        """Append to the ledger; answers its sequence. The masks are the caller's to change. `proof` is sealed for `rights`."""
        sequence = self.state.ledger_count + 1
        entry = pack_choice(choice)
        evidence = None
        if proof is not None:
            evidence = seal_event(self._open(self.writable(0)), choice.event_key, 0, proof)
        self.rows.ledger.append((self, sequence, entry, evidence))
        self.new_choices.append(choice)
        self.alter(ledger_count=sequence, ledger_head=chain(self.state.ledger_head, entry))
        self.changed = True
        return sequence

    def remove_wraps(self, mask: int, only: frozenset[bytes] | None = None) -> None:
        """Destroy the wraps of these purposes (`only` in these compartments), and every computed value that needed one."""
        all_of_them = [draft.wrapped for draft in self.compartments.values()]
        left, removed = without([one for one in all_of_them if only is None or one.compartment_id in only], mask)
        if not removed:
            return
        touched = {compartment_id for compartment_id, _ in removed}
        kept = {(wrapped.purposes, wrapped.generation): wrapped for wrapped in left}
        for place, draft in list(self.compartments.items()):
            if draft.wrapped.compartment_id not in touched:
                continue
            wrapped = kept.get(place)
            if wrapped is None:
                del self.compartments[place]
                if self._newest.get(place[0]) is draft:
                    del self._newest[place[0]]
                if draft.stored:
                    self.destroyed.append(place)
                self.rows.due.append((self, self.tools.now, SWEEP))
            elif wrapped != draft.wrapped:
                draft.rewrapped(wrapped)
                for field in JOINT_FIELDS:
                    draft.drop(field)
        self.removed_wraps.extend(removed)
        self.wraps_dirty = self.touched = self.changed = True

    def drop_tags(self, kind: int) -> None:
        """Have the identifiers of a kind find this subject no more; also those that this attempt was about to add."""
        gone = {tag for tag, number in self.tags.items() if number == kind}
        rows = self.rows
        rows.identity[:] = [row for row in rows.identity if row[0] is not self or row[1] not in gone]
        rows.identifiers[:] = [row for row in rows.identifiers if row[0] is not self or row[1] not in gone]
        for tag in sorted(gone):
            del self.tags[tag]
            rows.unfound.append((self, tag))
            rows.unnamed.append((self, tag))
        self.touched = self.changed = True

    def end_at(self, at: Micros) -> None:
        """Have the worker look at this subject at `at`, when a grant or a grace ends."""
        self.rows.due.append((self, at, EXPIRY))

    # --- writing ----------------------------------------------------------------------------------------------------

    def finish(self) -> bool:
        """Leave the rows of its state; False when nothing changed. The statement rests on the state row in any case."""
        rows = self.tools.rows
        if not self.fresh:
            rows.want.append((self, self.before.version))
        if not self.touched:
            return False
        marks: list[Mark] = []
        for (purposes, generation), draft in self.compartments.items():
            mark = draft.mark
            if draft.dirty:
                packed, version = draft.packed(), draft.version + 1
                blob = packed.blob
                if version == 1:
                    rows.filled.append((self, purposes, generation, draft.wrapped.compartment_id, version, blob))
                else:
                    rows.refilled.append((self, purposes, generation, version, blob))
                mark = Mark(purposes, generation, version, digest(blob))
                self._written.append((draft, mark, packed))
            if mark is not None:
                marks.append(mark)
        rows.turn.append((self, self.tools.turn))  # of wraps, of tags, and of tombstones that were looked for
        changes = self._finish_keys(rows) if self.wraps_dirty else {}
        for place in self.destroyed:
            rows.destroyed.append((self, *place))
        before = self.state
        state = self.state = msgspec.structs.replace(
            before,
            version=before.version + 1,
            event_count=before.event_count + self.events_added,
            compartments=tuple(marks),
            **changes,
        )
        row = (self, state.root, state.version, self.tools.states.pack(state))
        (rows.created if self.fresh else rows.updated).append(row)
        return True

    def _finish_keys(self, rows: Rows) -> dict[str, Any]:
        """Add the row of wraps; answers what the state must say of it."""
        wrapped = tuple([draft.wrapped for draft in self.compartments.values()])
        version = max(self.state.keys_version + 1, *self._made.values(), 0)
        row = pack_wraps(wrapped)
        rows.keys.append((self, version, row))
        if self._keys_row is not None:  # who re-wrapped it meanwhile must not be undone
            rows.seen_keys.append((self, sha256(self._keys_row).digest()))
        self._keys_row = row
        return {"keys_version": version, "holdings": holdings(holdings_of(wrapped))}

    def settled(self) -> None:
        """The statement committed: what was drafted is what is stored, and the draft begins anew on it."""
        for draft, mark, packed in self._written:
            draft.settle(mark, packed)
        self.before = self.state
        self._ready = None
        self.fields_changed.clear()
        if self._standing is not None and self.state.ledger_count:
            # Choices are decided on a ledger that was just read, so all that is kept of this one is what values need.
            self._explicit, self._standing = self._standing.explicit, None
        if self.destroyed or self.new_choices or self.removed_wraps:
            self.destroyed, self.new_choices, self.removed_wraps = [], [], []
        self._rest()

    def _rest(self) -> None:
        """Nothing is pending."""
        self.fresh = self.touched = self.changed = self.wraps_dirty = False
        self.events_added = 0
        self._written: list[tuple[CompartmentDraft, Mark, Directory]] = []
