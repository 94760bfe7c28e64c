"""Joining never widens, and every judgement says the same in each of its forms (threats B5)."""

from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.shop import SHOP
from vault.clock import Micros
from vault.consent.decision import Allowed, collectable, decide, meet, permitted, words_of
from vault.ids import uuid7
from vault.state.record import State, fresh

masks = st.integers(0, SHOP.all_purposes)
ends = st.integers(0, 10)


@st.composite
def states(draw: st.DrawFn) -> State:
    """Any state that a ledger can make, and then some."""
    refused = draw(masks)
    granted = draw(masks) & ~refused
    return msgspec.structs.replace(
        fresh(uuid7(Micros(0))),
        granted=granted,
        refused=refused,
        blocked=draw(masks),
        objected=draw(masks) if draw(st.booleans()) else 0,
        expiries=tuple((p, Micros(draw(ends))) for p in sorted(SHOP.purpose_by_number) if granted >> p & 1),
        restricted=draw(st.integers(0, 9)) == 0,
        fenced=draw(st.integers(0, 9)) == 0,
        minor=draw(st.integers(0, 9)) == 0,
    )


now = ends.map(Micros)


@given(states(), now)
def test_deciding_one_purpose_and_all_of_them_agree(state: State, at: Micros) -> None:
    allowed = permitted(SHOP, state, at)
    words = words_of(SHOP, state, at)
    for number, purpose in SHOP.purpose_by_number.items():
        assert isinstance(decide(SHOP, state, number, at), Allowed) == bool(allowed >> number & 1)
        assert (words[purpose.name] in {"granted", "permitted"}) == bool(collectable(SHOP, state, at) >> number & 1)


@given(states(), now)
def test_what_may_be_used_may_be_taken_in(state: State, at: Micros) -> None:
    assert permitted(SHOP, state, at) & ~collectable(SHOP, state, at) == 0


@given(states(), now, now)
def test_c4_time_alone_only_closes(state: State, one: Micros, other: Micros) -> None:
    earlier, later = sorted((one, other))
    assert permitted(SHOP, state, later) & ~permitted(SHOP, state, earlier) == 0


@given(st.lists(states(), min_size=1, max_size=4), st.lists(states(), max_size=2), now)
def test_b5_no_member_s_refusal_is_lost_and_no_claim_grants(
    members: list[State], claimed: list[State], at: Micros
) -> None:
    joined = meet(SHOP, members, at, claimed)
    for state in (*members, *claimed):
        no = state.refused | state.blocked | state.objected
        assert not joined & no & ~SHOP.always_mask
    granted = 0
    for state in members:
        granted |= permitted(SHOP, msgspec.structs.replace(state, refused=0, blocked=0, objected=0), at)
    assert joined & ~granted == 0
    assert joined & ~meet(SHOP, members, at) == 0


@given(st.lists(states(), min_size=1, max_size=4), now, st.randoms())
def test_the_order_of_joining_does_not_matter(members: list[State], at: Micros, random: Random) -> None:
    shuffled = list(members)
    random.shuffle(shuffled)
    assert meet(SHOP, shuffled, at) == meet(SHOP, members, at)
    assert meet(SHOP, [*members, *members], at) == meet(SHOP, members, at)


@given(states(), now)
def test_alone_a_member_is_itself(state: State, at: Micros) -> None:
    assert meet(SHOP, [state], at) == permitted(SHOP, state, at)
