"""Judges one person: do all rows agree with the state row, with each other, and with what the log says of them?

Promises: every wrap that this process has the key of is unwrapped, every identifier and every event opened, so that bytes
nobody wrote are found before somebody needs them. Values are dropped at once. Says what does not agree, never raises for it.
"""

from collections.abc import Iterable

from vault.audit.entry import Tag, parse, salted
from vault.catalogue.numbers import bits, identifier_object
from vault.consent.ledger import NO_HEAD, chain, read_chain
from vault.consent.standing import fold
from vault.errors import Unreadable
from vault.flows.people.attempt import Tools
from vault.flows.sweep.finding import Check
from vault.flows.sweep.people import Person, Place, StoredPart, by_place
from vault.flows.tags import identity_tag
from vault.flows.vault import Vault
from vault.identity.identifiers import normalise
from vault.keys.compartments import Compartment, Opener, Wrapped, holdings_of, parse_wraps
from vault.profile.sealing import open_event, open_fields
from vault.profile.sightings import read_sightings
from vault.profile.values import parse_fields
from vault.state.record import Mark, State, holdings, unpack


class Judge:
    """Judges one person. `checks` is what did not agree so far."""

    def __init__(self, vault: Vault, tools: Tools, person: Person) -> None:
        """`tools`: of this run."""
        self._vault = vault
        self._tools = tools
        self._person = person
        self._opener = Opener(tools.keyring, person.subject)
        self._wrapped: dict[Place, Wrapped] = {}
        self._opened: dict[Place, tuple[Compartment, int]] = {}
        self.state: State | None = None
        self.checks: set[Check] = set()

    def __repr__(self) -> str:
        return f"Judge({self._person.subject})"

    @property
    def kept(self) -> bool:
        """True for what law keeps at an erasure: it has events only, and ends without a word in the journal."""
        return self.state is not None and not self.state.compartments and not self.state.ledger_count

    def judge(self) -> None:
        """All but the events."""
        person = self._person
        try:
            self.state = unpack(person.subject, person.state, self._tools.state_key)
        except Unreadable:
            self.checks.add(Check.STATE)
            return
        if self.state.version != person.version or self.state.root != person.root:
            self.checks.add(Check.STATE)
        self._judge_log(self.state)
        if self.state.fenced:  # an erasure is under way: its rows are going
            return
        self._judge_keys(self.state)
        self._judge_values(self.state)
        self._judge_ledger(self.state)
        self._judge_profile(self.state)
        if Check.VALUES not in self.checks:
            self._judge_identifiers()

    # --- one thing after the other ----------------------------------------------------------------------------------

    def _judge_keys(self, state: State) -> None:
        person = self._person
        try:
            wrapped = _holdings(state, person)
            for one in wrapped:
                self._judge_wraps(one)
        except Unreadable:
            self.checks.add(Check.KEYS)
            return
        self._wrapped = by_place(wrapped)

    def _judge_wraps(self, one: Wrapped) -> None:
        """Unwraps each for which there is a key here. Raises `Unreadable`, also for an epoch that never was."""
        held = self._tools.keyring.holds
        for wrap in one.wraps:
            if held(wrap.purpose, wrap.epoch):
                self._opener.open(one, wrap.purpose)
            elif held(wrap.purpose):
                raise Unreadable

    def _judge_values(self, state: State) -> None:
        marks = {(mark.purposes, mark.generation): mark for mark in state.compartments}
        for purposes, generation, compartment_id, version, fields in self._person.compartments:
            mark, wrapped = marks.pop((purposes, generation), None), self._wrapped.get((purposes, generation))
            try:
                _check_values(mark, version, fields)
            except Unreadable:
                self.checks.add(Check.VALUES)
                continue
            if Check.KEYS not in self.checks and (wrapped is None or wrapped.compartment_id != compartment_id):
                self.checks.add(Check.VALUES)
        if marks:
            self.checks.add(Check.VALUES)

    def _judge_ledger(self, state: State) -> None:
        try:
            masks = fold(read_chain(self._person.ledger, state.ledger_count, state.ledger_head)).masks()
        except Unreadable:
            self.checks.add(Check.LEDGER)
            return
        said = (masks.granted, masks.refused, masks.blocked, masks.objected, masks.expiries)
        if said != (state.granted, state.refused, state.blocked, state.objected, state.expiries):
            self.checks.add(Check.CHOICES)

    def _judge_profile(self, state: State) -> None:
        person = self._person
        if state.event_count != person.events:
            self.checks.add(Check.EVENTS)
        if not person.rooted or (state.is_root and state.members != person.members):
            self.checks.add(Check.PROFILE)
        if self.kept:
            return
        if not person.marked:
            self.checks.add(Check.CHANGE)
        if person.undeduplicated:
            self.checks.add(Check.DEDUP)

    def _judge_identifiers(self) -> None:
        """Tags on record are those of the sealed identifiers, no more and no less, and each finds this person."""
        recorded = {(kind, tag) for kind, tag, _ in self._person.identifiers}
        if any(found != self._person.subject for _, _, found in self._person.identifiers):
            self.checks.add(Check.LOOKUP)
        if Check.KEYS in self.checks:
            return
        try:
            expected, sealed_off = self._sealed_identifiers()
        except Unreadable:
            self.checks.add(Check.VALUES)
            return
        if not expected <= recorded or (not sealed_off and recorded != expected):
            self.checks.add(Check.IDENTIFIERS)

    def _sealed_identifiers(self) -> tuple[set[tuple[int, bytes]], bool]:
        """(kind, tag) of each identifier that opens here; and whether there are some that another process must open."""
        kinds = {identifier_object(kind.number): kind for kind in self._vault.catalogue.identifiers.values()}
        found: set[tuple[int, bytes]] = set()
        sealed_off = False
        for purposes, generation, _, _, fields in self._person.compartments:
            chosen = [one for one in zip(*parse_fields(fields), strict=True) if one[0].field in kinds]
            if not chosen:
                continue
            way = self._way(purposes, generation)
            if way is None:
                sealed_off = True
                continue
            for head, plaintext in open_fields(way[0], chosen, self._tools.permit(way[1])):
                kind = kinds[head.field]
                for sighting in () if kind.account else read_sightings(plaintext):
                    normal = normalise(kind, sighting.value)
                    if normal is not None:
                        found.add((kind.number, identity_tag(self._tools.keyring, kind.name, normal)))
        return found, sealed_off

    def _way(self, purposes: int, generation: int) -> tuple[Compartment, int] | None:
        """The compartment opened for one of its purposes (never by `rights`: that wants a request), and that purpose."""
        known = self._opened.get((purposes, generation))
        wrapped = self._wrapped.get((purposes, generation))
        if known is not None or wrapped is None:
            return known
        for purpose in bits(wrapped.held):
            if any(one.purpose == purpose and self._tools.keyring.holds(purpose, one.epoch) for one in wrapped.wraps):
                known = self._opened[purposes, generation] = self._opener.open(wrapped, purpose), purpose
                return known
        return None

    # --- the log ----------------------------------------------------------------------------------------------------

    def _judge_log(self, state: State) -> None:
        """Each salt explains a leaf; what the leaves say of choices is in the ledger."""
        heads = {NO_HEAD, state.ledger_head}
        at = NO_HEAD
        for entry in self._person.ledger:
            at = chain(at, entry)
            heads.add(at)
        for salt, leaf in self._person.salts:
            if not _explained(self._person.subject.bytes, salt, leaf, heads):
                self.checks.add(Check.LOG)
                return

    # --- events -----------------------------------------------------------------------------------------------------

    def judge_parts(self, parts: Iterable[StoredPart]) -> None:
        """Some of the events. Those whose keys are gone wait to be swept, and are nobody's."""
        for one in parts:
            way = self._way(one.purposes, one.generation)
            if way is None:
                continue
            try:
                open_event(way[0], one.event_key, one.kind, one.sealed, self._tools.permit(way[1]))
            except Unreadable:
                self.checks.add(Check.EVENTS)
                return

    @property
    def opens_events(self) -> bool:
        """Whether it is worth reading them."""
        return self.state is not None and not self.state.fenced and Check.KEYS not in self.checks


def _holdings(state: State, person: Person) -> tuple[Wrapped, ...]:
    """The compartments of the row of wraps. Raises `Unreadable` unless it is the one that the state row knows."""
    wrapped = parse_wraps(person.wraps or b"")
    if state.keys_version != person.keys_version or state.holdings != holdings(holdings_of(wrapped)):
        raise Unreadable
    return wrapped


def _check_values(mark: Mark | None, version: int, fields: bytes) -> None:
    """Raises `Unreadable` unless these are the newest bytes of a compartment."""
    if mark is None:
        raise Unreadable
    mark.check(version, fields)
    parse_fields(fields)


def _explained(subject: bytes, salt: bytes, leaf: bytes | None, heads: set[bytes]) -> bool:
    if leaf is None:
        return False
    try:
        entry = parse(leaf)
    except Unreadable:
        return False
    name = salted(salt, subject)
    listed = entry.detail.get("subjects")
    if entry.subject != name and not (isinstance(listed, list) and name in listed):
        return False
    if entry.tag is not Tag.CONSENT_CHOICE_RECORDED:
        return True
    return entry.detail.get("head") in {salted(salt, head) for head in heads}
