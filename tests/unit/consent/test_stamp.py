"""A stamp limits, and writes little."""

import msgspec
import pytest

from tests.shop import ADVERTISING, ANALYTICS, FRAUD, MARKETING, PERSONAL, SHOP, mask
from tests.unit.consent.said import (
    ALL_FALSE,
    ALL_TRUE,
    LAPTOP,
    PERSON,
    PHONE,
    SERVER,
    STRANGER,
    Book,
    at,
)
from vault.clock import DAY
from vault.consent.decision import permitted
from vault.consent.ledger import Authority, Decision
from vault.consent.stamp import Speaker, Stamp, read_stamp, says_something_new, stamp_entries
from vault.consent.standing import fold

MAPPED = mask(ANALYTICS, PERSONAL, MARKETING, ADVERTISING)


@pytest.mark.parametrize(
    ("preferences", "stamp"),
    [
        pytest.param(ALL_TRUE, Stamp(yes=MAPPED, no=0, denies=0), id="all true"),
        pytest.param(ALL_FALSE, Stamp(yes=0, no=MAPPED, denies=MAPPED), id="all false"),
        pytest.param({}, Stamp(yes=0, no=0, denies=MAPPED), id="empty: all denied, none refused"),
        pytest.param(
            {"analytics": True},
            Stamp(yes=mask(ANALYTICS), no=0, denies=MAPPED & ~mask(ANALYTICS)),
            id="a missing category denies and refuses nothing",
        ),
        pytest.param(
            {**ALL_TRUE, "advertising": False},
            Stamp(yes=mask(ANALYTICS, PERSONAL), no=mask(MARKETING, ADVERTISING), denies=mask(MARKETING, ADVERTISING)),
            id="one category, two purposes",
        ),
        pytest.param({**ALL_TRUE, "Advertising": False}, Stamp(yes=MAPPED, no=0, denies=0), id="names are exact"),
        pytest.param({**ALL_TRUE, "unknown": False}, Stamp(yes=MAPPED, no=0, denies=0), id="unknown category"),
    ],
)
def test_a_stamp_in_terms_of_purposes(preferences: dict[str, bool], stamp: Stamp) -> None:
    assert read_stamp(preferences, SHOP) == stamp


def test_no_stamp_says_nothing() -> None:
    assert read_stamp(None, SHOP) is None
    assert not says_something_new(SHOP, Book().state, None, SERVER)


def test_a_purpose_in_no_category_is_untouched() -> None:
    stamp = read_stamp(ALL_FALSE, SHOP)
    assert stamp is not None
    assert not stamp.denies & (SHOP.all_purposes & ~SHOP.mapped)


def test_the_first_stamp_grants_what_is_true_and_writes_nothing_for_what_is_false() -> None:
    book = Book()
    entries = book.stamp({"functional": True, "analytics": False, "advertising": True})
    assert [(entry.purpose, entry.decision) for entry in entries] == [
        (PERSONAL, Decision.GRANTED),
        (MARKETING, Decision.GRANTED),
        (ADVERTISING, Decision.GRANTED),
    ]
    assert book.state.granted == mask(PERSONAL, MARKETING, ADVERTISING)
    assert book.state.refused == 0


def test_a_grant_ends_when_its_purpose_says_counted_from_when_it_was_said() -> None:
    book = Book()
    book.stamp(ALL_TRUE, said=0, received=100)
    life = SHOP.purposes["marketing"].expires
    assert life is not None
    assert dict(book.state.expiries)[MARKETING] == at(0) + life


def test_a_repeated_stamp_renews_nothing() -> None:
    book = Book()
    book.stamp(ALL_TRUE)
    assert book.stamp(ALL_TRUE, said=DAY / 1e6) == ()
    assert not says_something_new(SHOP, book.state, read_stamp(ALL_TRUE, SHOP), SERVER)


def test_c12_a_denying_stamp_before_anybody_answered_is_no_choice() -> None:
    book = Book()
    assert book.stamp(ALL_FALSE, PHONE) == ()
    book.stamp(ALL_TRUE, LAPTOP, 1)
    assert book.stamp(ALL_FALSE, PHONE, 2) == (), "another device's banner, not yet answered"
    assert book.state.granted == MAPPED


def test_a_device_that_granted_may_refuse_by_stamp() -> None:
    book = Book()
    book.stamp(ALL_TRUE, PHONE)
    entries = book.stamp({**ALL_TRUE, "advertising": False}, PHONE, 1)
    assert {(entry.purpose, entry.decision) for entry in entries} == {
        (MARKETING, Decision.WITHDRAWN),
        (ADVERTISING, Decision.WITHDRAWN),
    }
    assert book.state.refused == mask(MARKETING, ADVERTISING)


def test_a_category_left_out_of_a_stamp_withdraws_nothing() -> None:
    book = Book()
    book.stamp(ALL_TRUE, PHONE)
    assert book.stamp({"analytics": True}, PHONE, 1) == ()


@pytest.mark.parametrize("speaker", [PHONE, LAPTOP, SERVER])
def test_c11_after_a_withdrawal_by_act_no_stamp_brings_it_back(speaker: Speaker) -> None:
    book = Book()
    book.stamp(ALL_TRUE, speaker)
    book.say(ADVERTISING, Decision.WITHDRAWN, PERSON, 10)
    for later in range(11, 16):
        assert book.stamp(ALL_TRUE, speaker, later) == ()
    assert book.state.refused & mask(ADVERTISING)


def test_a_server_source_may_overturn_by_stamp_what_its_own_stamp_refused_if_said_later() -> None:
    book = Book()
    book.stamp(ALL_TRUE, SERVER, 0)
    book.stamp(ALL_FALSE, SERVER, 10)
    assert book.state.refused == MAPPED
    assert book.stamp(ALL_TRUE, SERVER, 10, received=20) == (), "not strictly later"
    book.stamp(ALL_TRUE, SERVER, 11)
    assert book.state.granted == MAPPED


@pytest.mark.parametrize(
    "speaker",
    [
        pytest.param(PHONE, id="a client's own"),
        pytest.param(Speaker(authority=Authority.SERVER, source=9, device=SERVER.device), id="another server source"),
    ],
)
def test_nobody_else_overturns_a_refusal_by_stamp(speaker: Speaker) -> None:
    first = SERVER if speaker.source == 9 else speaker
    book = Book()
    book.stamp(ALL_TRUE, first, 0)
    book.stamp(ALL_FALSE, first, 10)
    assert book.stamp(ALL_TRUE, speaker, 20) == ()
    assert book.state.refused == MAPPED


def test_a_server_source_s_stamp_does_not_overturn_where_an_act_refused_as_well() -> None:
    book = Book()
    book.stamp(ALL_TRUE, SERVER, 0)
    book.stamp({"advertising": False}, SERVER, 10)
    book.say(ADVERTISING, Decision.DENIED, SERVER, 11)
    book.stamp(ALL_TRUE, SERVER, 20)
    assert book.state.refused == mask(ADVERTISING)


def test_c14_the_stamp_of_a_device_that_merely_names_a_profile_writes_nothing() -> None:
    book = Book()
    assert book.stamp(ALL_TRUE, STRANGER) == ()
    book.stamp(ALL_TRUE, SERVER)
    assert book.stamp(ALL_FALSE, STRANGER, 1) == ()
    assert book.state.granted == MAPPED


def test_an_expired_choice_is_an_entry_so_no_stamp_renews_it() -> None:
    book = Book()
    book.stamp(ALL_TRUE)
    later = 4 * 365 * 86_400
    assert not permitted(SHOP, book.state, at(later)) & MAPPED
    assert book.stamp(ALL_TRUE, said=later) == ()


def test_a_stamp_neither_grants_nor_objects_where_the_basis_is_an_interest() -> None:
    categories = {**SHOP.categories, "security": mask(FRAUD)}
    mapped = msgspec.structs.replace(SHOP, categories=categories, mapped=SHOP.mapped | mask(FRAUD))
    for answer in (True, False):
        stamp = read_stamp({"security": answer}, mapped)
        assert stamp is not None
        assert bool(stamp.denies & mask(FRAUD)) is not answer
        assert stamp_entries(mapped, fold([]), stamp, SERVER, said_at=at(0), received_at=at(0)) == ()
