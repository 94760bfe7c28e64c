"""A ledger being written, as the journeys write one: every stamp and act judged against what stands."""

from collections.abc import Iterable, Mapping

import msgspec

from tests.shop import SHOP
from vault.clock import Micros
from vault.consent.act import Outcome, Said, act_entries, said_by_change
from vault.consent.ledger import Authority, Choice, Decision, How
from vault.consent.stamp import Speaker, read_stamp, says_something_new, stamp_entries
from vault.consent.standing import Standing, apply, fold
from vault.ids import uuid7
from vault.state.record import State, fresh

START = Micros(1_790_000_000_000_000)
SERVER = Speaker(authority=Authority.SERVER, source=1, device=b"u" * 16)
PHONE = Speaker(authority=Authority.CLIENT, source=2, device=b"p" * 16)
LAPTOP = Speaker(authority=Authority.CLIENT, source=2, device=b"l" * 16)
STRANGER = Speaker(authority=Authority.CLIENT, source=3, device=b"s" * 16, claimed=True)
PERSON = Speaker(authority=Authority.PERSON)
OFFICER = Speaker(authority=Authority.OFFICER)

ALL_TRUE = {"functional": True, "analytics": True, "advertising": True}
ALL_FALSE = dict.fromkeys(ALL_TRUE, False)


def at(seconds: float) -> Micros:
    """Seconds after the start."""
    return Micros(START + round(seconds * 1_000_000))


def state_of(standing: Standing) -> State:
    """The state row that goes with a ledger."""
    masks = msgspec.structs.asdict(standing.masks())
    return msgspec.structs.replace(fresh(uuid7(START)), ledger_count=len(standing.choices), **masks)


class Book:
    """One subject's ledger."""

    def __init__(self, choices: Iterable[Choice] = ()) -> None:
        self.written = list(choices)
        self.standing = fold(self.written)

    @property
    def state(self) -> State:
        return state_of(self.standing)

    def write(self, entries: Iterable[Choice]) -> tuple[Choice, ...]:
        written = tuple(entries)
        self.written += written
        for choice in written:
            self.standing = apply(self.standing, choice)
        return written

    def stamp(
        self,
        preferences: Mapping[str, bool],
        speaker: Speaker = SERVER,
        said: float = 0,
        received: float | None = None,
    ) -> tuple[Choice, ...]:
        stamp = read_stamp(preferences, SHOP)
        assert stamp is not None
        new = says_something_new(SHOP, self.state, stamp, speaker)
        entries = stamp_entries(
            SHOP,
            self.standing,
            stamp,
            speaker,
            said_at=at(said),
            received_at=at(said if received is None else received),
        )
        assert new or not entries, "the state alone must not hide what the ledger would show"
        return self.write(entries)

    def change(self, preferences: Mapping[str, bool], speaker: Speaker = SERVER, said: float = 0) -> Outcome:
        stamp = read_stamp(preferences, SHOP)
        assert stamp is not None
        return self.act(said_by_change(stamp), speaker, said, How.CHANGE_EVENT)

    def act(
        self,
        said: Iterable[Said],
        speaker: Speaker = PERSON,
        when: float = 0,
        how: How = How.API,
        *,
        received: float | None = None,
        minor: bool = False,
    ) -> Outcome:
        received_at = at(when if received is None else received)
        outcome = act_entries(
            SHOP, self.standing, said, speaker, how=how, said_at=at(when), received_at=received_at, minor=minor
        )
        self.write(outcome.entries)
        assert outcome.standing == self.standing
        return outcome

    def say(self, purpose: int, decision: Decision, speaker: Speaker = PERSON, when: float = 0) -> Outcome:
        return self.act([Said(purpose=purpose, decision=decision)], speaker, when)
