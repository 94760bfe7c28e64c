"""What a state permits."""

import msgspec
import pytest

from tests.shop import ADVERTISING, ANALYTICS, FRAUD, MARKETING, SERVICE, SHOP, mask
from tests.unit.consent.said import ALL_TRUE, PERSON, SERVER, Book, at
from vault.consent.decision import Allowed, Refused, collectable, decide, meet, permitted, words_of
from vault.consent.ledger import Decision
from vault.ids import uuid7
from vault.state.record import State, fresh

replace = msgspec.structs.replace
NOW = at(100)
LATER = at(4 * 365 * 86_400)
NOBODY = fresh(uuid7(at(0)))
NEUTRAL = SHOP.always_mask | SHOP.interest_mask


def granted() -> State:
    book = Book()
    book.stamp(ALL_TRUE)
    return book.state


def test_without_a_choice_only_what_needs_none_is_permitted() -> None:
    assert permitted(SHOP, NOBODY, NOW) == NEUTRAL


def test_a_grant_permits_until_it_ends() -> None:
    state = granted()
    assert permitted(SHOP, state, NOW) == SHOP.all_purposes
    ends = dict(state.expiries)[ANALYTICS]
    assert permitted(SHOP, replace(state), ends) == NEUTRAL
    assert permitted(SHOP, state, at(-1)) == SHOP.all_purposes, "C4: a clock that jumps back revives nothing else"


@pytest.mark.parametrize("field", ["refused", "blocked", "objected"])
@pytest.mark.parametrize("purpose", [ANALYTICS, FRAUD])
def test_any_no_beats_a_yes(field: str, purpose: int) -> None:
    state = replace(granted(), **{field: mask(purpose)})
    assert not permitted(SHOP, state, NOW) & mask(purpose)


@pytest.mark.parametrize("field", ["refused", "blocked", "objected"])
def test_nobody_can_refuse_what_contract_and_law_demand(field: str) -> None:
    assert permitted(SHOP, replace(NOBODY, **{field: SHOP.all_purposes}), NOW) == SHOP.always_mask


def test_a_restriction_beats_every_choice_and_lets_data_be_sealed() -> None:
    state = replace(granted(), restricted=True)
    assert permitted(SHOP, state, NOW) == 0
    assert collectable(SHOP, state, NOW) == SHOP.all_purposes


def test_an_erasure_closes_everything() -> None:
    state = replace(granted(), fenced=True)
    assert permitted(SHOP, state, NOW) == collectable(SHOP, state, NOW) == 0


def test_c10_a_minor_s_data_serves_no_consent_purpose_and_no_profiling() -> None:
    assert permitted(SHOP, replace(granted(), minor=True), NOW) == NEUTRAL


def test_c10_a_refusal_survives_a_switch_of_basis() -> None:
    switched = replace(
        SHOP, consent_mask=SHOP.consent_mask & ~mask(ANALYTICS), interest_mask=SHOP.interest_mask | mask(ANALYTICS)
    )
    assert not permitted(switched, replace(NOBODY, refused=mask(ANALYTICS)), NOW) & mask(ANALYTICS)


@pytest.mark.parametrize(
    ("state", "purpose", "answer"),
    [
        (granted(), ANALYTICS, Allowed("consent")),
        (NOBODY, SERVICE, Allowed("contract")),
        (NOBODY, FRAUD, Allowed("legitimate_interests")),
        (NOBODY, ANALYTICS, Refused("no_choice")),
        (NOBODY, 61, Refused("unknown_purpose")),
        (replace(granted(), refused=mask(ANALYTICS)), ANALYTICS, Refused("refused")),
        (replace(granted(), blocked=mask(ANALYTICS)), ANALYTICS, Refused("blocked")),
        (replace(NOBODY, objected=mask(FRAUD)), FRAUD, Refused("objected")),
        (replace(granted(), restricted=True), SERVICE, Refused("restricted")),
        (replace(granted(), fenced=True), SERVICE, Refused("erasing")),
        (replace(granted(), minor=True), ADVERTISING, Refused("minor")),
        (replace(granted(), expiries=((ANALYTICS, NOW),)), ANALYTICS, Refused("expired")),
    ],
)
def test_every_decision_says_why(state: State, purpose: int, answer: Allowed | Refused) -> None:
    assert decide(SHOP, state, purpose, NOW) == answer


def test_the_words_of_the_api() -> None:
    book = Book()
    book.stamp({"analytics": True, "advertising": True})
    book.say(MARKETING, Decision.WITHDRAWN, PERSON, 10)
    book.say(FRAUD, Decision.OBJECTED, PERSON, 10)
    words = words_of(SHOP, book.state, NOW)
    expected = {
        "service": "permitted",
        "analytics": "granted",
        "marketing": "refused",
        "fraud_prevention": "objected",
        "personalisation": "undecided",
    }
    assert {name: words[name] for name in expected} == expected
    assert words_of(SHOP, book.state, LATER)["analytics"] == "expired"
    assert set(words_of(SHOP, replace(book.state, fenced=True), NOW).values()) <= {
        "erasing",
        "refused",
        "objected",
        "undecided",
    }


# --- joined profiles ---------------------------------------------------------------------------------------------------


def test_b5_refused_over_granted_over_neutral() -> None:
    no, yes, none = replace(NOBODY, refused=mask(ANALYTICS)), granted(), NOBODY
    assert not meet(SHOP, [yes, no], NOW) & mask(ANALYTICS)
    assert not meet(SHOP, [none, no], NOW) & mask(ANALYTICS)
    assert meet(SHOP, [yes, none], NOW) & mask(ANALYTICS)
    assert not meet(SHOP, [none, none], NOW) & mask(ANALYTICS)


def test_b5_an_expired_grant_is_neutral() -> None:
    book = Book()
    book.stamp(ALL_TRUE, SERVER, LATER / 1e6 - at(0) / 1e6)
    assert meet(SHOP, [granted(), book.state], LATER) & mask(ANALYTICS)
    assert not meet(SHOP, [granted(), NOBODY], LATER) & mask(ANALYTICS)


def test_c14_a_claimed_member_refuses_and_never_grants() -> None:
    assert not meet(SHOP, [NOBODY], NOW, [granted()]) & mask(ANALYTICS)
    assert not meet(SHOP, [granted()], NOW, [replace(NOBODY, refused=mask(ANALYTICS))]) & mask(ANALYTICS)


@pytest.mark.parametrize("field", ["restricted", "fenced"])
def test_one_closed_member_closes_the_profile(field: str) -> None:
    assert meet(SHOP, [granted(), replace(NOBODY, **{field: True})], NOW) == 0


def test_one_minor_makes_a_profile_a_minor_s() -> None:
    assert meet(SHOP, [granted(), replace(NOBODY, minor=True)], NOW) == NEUTRAL
    assert meet(SHOP, [granted()], NOW, [replace(NOBODY, minor=True)]) == NEUTRAL


def test_nobody_permits_nothing() -> None:
    assert meet(SHOP, [], NOW) == 0
    assert meet(SHOP, [], NOW, [granted()]) == 0


def test_one_member_alone_is_what_the_member_is() -> None:
    for state in (NOBODY, granted(), replace(granted(), refused=mask(MARKETING))):
        assert meet(SHOP, [state], NOW) == permitted(SHOP, state, NOW)
