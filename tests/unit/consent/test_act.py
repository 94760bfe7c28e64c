"""An act decides."""

import pytest

from tests.shop import ACCOUNTING, ADVERTISING, ANALYTICS, FRAUD, MARKETING, PERSONAL, SERVICE, SHOP, mask
from tests.unit.consent.said import (
    ALL_TRUE,
    LAPTOP,
    OFFICER,
    PERSON,
    PHONE,
    SERVER,
    STRANGER,
    Book,
    at,
)
from vault.clock import Micros
from vault.consent.act import (
    GRACE,
    Said,
    carried_entries,
    copied_to_member,
    expiry_entries,
    grace_entries,
    invalidation_entries,
    narrowed,
    wraps_lost,
)
from vault.consent.decision import permitted
from vault.consent.ledger import Authority, Decision, How
from vault.consent.stamp import Speaker

GRACE_SECONDS = GRACE / 1_000_000


def granted_book() -> Book:
    book = Book()
    book.stamp(ALL_TRUE, SERVER)
    return book


# --- the change event ------------------------------------------------------------------------------------------------


def test_the_change_event_withdraws_what_was_granted_and_denies_what_was_not() -> None:
    book = Book()
    book.stamp({"functional": True, "analytics": False, "advertising": True})
    outcome = book.change({"functional": True, "analytics": False, "advertising": False}, said=10)
    assert {(entry.purpose, entry.decision) for entry in outcome.entries} == {
        (PERSONAL, Decision.GRANTED),
        (ANALYTICS, Decision.DENIED),
        (MARKETING, Decision.WITHDRAWN),
        (ADVERTISING, Decision.WITHDRAWN),
    }
    assert book.state.granted == mask(PERSONAL)
    assert book.state.refused == mask(ANALYTICS, MARKETING, ADVERTISING)
    assert wraps_lost(SHOP, outcome.entries) == mask(ANALYTICS, MARKETING, ADVERTISING)


def test_the_change_event_says_nothing_about_a_category_that_it_does_not_name() -> None:
    book = granted_book()
    outcome = book.change({"analytics": False}, said=10)
    assert [entry.purpose for entry in outcome.entries] == [ANALYTICS]
    assert book.state.granted == mask(PERSONAL, MARKETING, ADVERTISING)


def test_an_act_renews_a_grant() -> None:
    book = granted_book()
    before = dict(book.state.expiries)[ANALYTICS]
    book.change({"analytics": True}, said=10)
    assert dict(book.state.expiries)[ANALYTICS] == before + 10_000_000


def test_an_older_grant_that_comes_late_does_not_shorten_a_newer_one() -> None:
    book = granted_book()
    book.act([Said(purpose=ANALYTICS, decision=Decision.GRANTED)], when=100)
    newest = dict(book.state.expiries)[ANALYTICS]
    book.act([Said(purpose=ANALYTICS, decision=Decision.GRANTED)], when=50, received=200)
    assert dict(book.state.expiries)[ANALYTICS] == newest


# --- order and authority ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refuser", "granter", "overturns"),
    [
        (PHONE, PHONE, True),
        (PHONE, SERVER, True),
        (PHONE, PERSON, True),
        (SERVER, PHONE, False),
        (SERVER, SERVER, True),
        (SERVER, OFFICER, True),
        (PERSON, PHONE, False),
        (PERSON, SERVER, False),
        (PERSON, OFFICER, True),
        (OFFICER, PERSON, True),
        (OFFICER, SERVER, False),
    ],
)
def test_a_grant_needs_the_rank_of_the_refusal(refuser: Speaker, granter: Speaker, overturns: bool) -> None:
    book = granted_book()
    book.say(ANALYTICS, Decision.WITHDRAWN, refuser, 10)
    outcome = book.say(ANALYTICS, Decision.GRANTED, granter, 20)
    assert bool(book.state.granted & mask(ANALYTICS)) is overturns
    assert [one.reason for one in outcome.ignored] == ([] if overturns else ["outranked"])


def test_the_highest_refusal_counts_not_the_latest() -> None:
    book = granted_book()
    book.say(ANALYTICS, Decision.WITHDRAWN, PERSON, 10)
    book.say(ANALYTICS, Decision.DENIED, PHONE, 11)
    book.say(ANALYTICS, Decision.GRANTED, SERVER, 20)
    assert not book.state.granted & mask(ANALYTICS)


@pytest.mark.parametrize("said", [-1000, 5, 10])
def test_c1_a_grant_said_before_the_withdrawal_is_stale_however_late_it_comes(said: float) -> None:
    book = granted_book()
    book.say(ANALYTICS, Decision.WITHDRAWN, PERSON, 10)
    outcome = book.act([Said(purpose=ANALYTICS, decision=Decision.GRANTED)], PERSON, said, received=500)
    assert outcome.entries == ()
    assert [one.reason for one in outcome.ignored] == ["stale_grant"]


def test_c2_a_grant_from_the_future_is_said_when_it_is_received() -> None:
    book = Book()
    outcome = book.act([Said(purpose=ANALYTICS, decision=Decision.GRANTED)], PERSON, 10_000, received=10)
    assert outcome.entries[0].said_at == at(10)
    book.say(ANALYTICS, Decision.WITHDRAWN, PERSON, 11)
    assert book.state.refused == mask(ANALYTICS)


def test_c2_a_backdated_withdrawal_counts_and_does_not_let_the_old_grant_back_in() -> None:
    book = granted_book()
    book.act([Said(purpose=ANALYTICS, decision=Decision.GRANTED)], PERSON, 100)
    book.act([Said(purpose=ANALYTICS, decision=Decision.WITHDRAWN)], PERSON, -1e9, received=200)
    assert book.state.refused == mask(ANALYTICS)
    book.act([Said(purpose=ANALYTICS, decision=Decision.GRANTED)], PERSON, 100, received=300)  # replayed
    assert book.state.refused == mask(ANALYTICS)
    book.say(ANALYTICS, Decision.GRANTED, PERSON, 400)
    assert not book.state.refused


def test_a_time_before_1970_is_1970() -> None:
    outcome = Book().act([Said(purpose=ANALYTICS, decision=Decision.DENIED, said_at=Micros(-5))])
    assert outcome.entries[0].said_at == 0


def test_one_act_is_judged_choice_by_choice() -> None:
    book = Book()
    outcome = book.act(
        [
            Said(purpose=ANALYTICS, decision=Decision.DENIED, said_at=at(1)),
            Said(purpose=ANALYTICS, decision=Decision.GRANTED, said_at=at(1)),
        ],
        when=5,
    )
    assert [entry.decision for entry in outcome.entries] == [Decision.DENIED]
    assert [one.reason for one in outcome.ignored] == ["stale_grant"]


# --- what can be chosen ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", [SERVICE, ACCOUNTING])
@pytest.mark.parametrize("decision", [Decision.GRANTED, Decision.WITHDRAWN, Decision.OBJECTED])
def test_contract_and_law_are_no_choice(purpose: int, decision: Decision) -> None:
    outcome = Book().say(purpose, decision)
    assert outcome.entries == ()
    assert [one.reason for one in outcome.ignored] == ["no_choice_here"]


def test_c7_a_purpose_that_nobody_declared_is_ignored() -> None:
    assert [one.reason for one in Book().say(62, Decision.GRANTED).ignored] == ["unknown_purpose"]


@pytest.mark.parametrize("decision", [Decision.DENIED, Decision.WITHDRAWN, Decision.OBJECTED])
def test_any_refusal_of_an_interest_is_an_objection_and_a_weighed_one_keeps_its_wraps(decision: Decision) -> None:
    book = Book()
    assert permitted(SHOP, book.state, at(0)) & mask(FRAUD)
    outcome = book.say(FRAUD, decision)
    assert [entry.decision for entry in outcome.entries] == [Decision.OBJECTED]
    assert not permitted(SHOP, book.state, at(1)) & mask(FRAUD)
    assert wraps_lost(SHOP, outcome.entries) == 0
    book.say(FRAUD, Decision.GRANTED, PERSON, 10)
    assert permitted(SHOP, book.state, at(11)) & mask(FRAUD)


def test_an_objection_to_marketing_binds_and_takes_its_wraps() -> None:
    book = granted_book()
    outcome = book.say(MARKETING, Decision.OBJECTED, PERSON, 10)
    assert book.state.objected == book.state.refused == mask(MARKETING)
    assert wraps_lost(SHOP, outcome.entries) == mask(MARKETING)


def test_a_later_denial_does_not_lift_an_objection() -> None:
    book = granted_book()
    book.say(MARKETING, Decision.OBJECTED, PERSON, 10)
    book.say(MARKETING, Decision.DENIED, PHONE, 11)
    assert book.state.objected == mask(MARKETING)


def test_a_request_permits_nothing_until_it_is_confirmed() -> None:
    book = Book()
    book.say(MARKETING, Decision.REQUESTED)
    assert book.state.granted == 0
    assert book.stamp(ALL_TRUE, SERVER, 1) and not book.state.granted & mask(MARKETING)  # noqa: PT018
    book.say(MARKETING, Decision.GRANTED, PERSON, 2)
    assert book.state.granted & mask(MARKETING)


def test_a_minor_s_grant_is_not_taken_and_a_minor_s_refusal_is() -> None:
    book = Book()
    outcome = book.act([Said(purpose=ANALYTICS, decision=Decision.GRANTED)], minor=True)
    assert [one.reason for one in outcome.ignored] == ["minor"]
    book.act([Said(purpose=ANALYTICS, decision=Decision.DENIED)], minor=True)
    assert book.state.refused == mask(ANALYTICS)


def test_only_a_server_source_or_a_person_reaches_back_in_time() -> None:
    said = [Said(purpose=MARKETING, decision=Decision.GRANTED, covers=(1, 2))]
    assert Book().act(said, PERSON).entries[0].covers == (1, 2)
    assert Book().act(said, SERVER).entries[0].covers == (1, 2)
    assert Book().act(said, PHONE).entries[0].covers == ()


def test_a_choice_keeps_notice_language_evidence_and_address() -> None:
    said = Said(
        purpose=MARKETING,
        decision=Decision.GRANTED,
        notice="marketing/1",
        language="de",
        evidence=b"e" * 32,
        about=b"a" * 16,
    )
    entry = Book().act([said], SERVER).entries[0]
    kept = (entry.notice, entry.language, entry.evidence, entry.about, entry.source, entry.device)
    assert kept == ("marketing/1", "de", b"e" * 32, b"a" * 16, SERVER.source, SERVER.device)


# --- client sources that merely name a profile -------------------------------------------------------------------------


def test_c13_a_stranger_s_refusal_blocks_at_once_and_destroys_nothing() -> None:
    book = granted_book()
    before = book.standing.masks()
    outcome = book.say(ADVERTISING, Decision.WITHDRAWN, STRANGER, 10)
    assert not permitted(SHOP, book.state, at(11)) & mask(ADVERTISING)
    assert wraps_lost(SHOP, outcome.entries) == 0
    assert book.state.refused == 0
    assert narrowed(before, book.standing.masks()) == (0, mask(ADVERTISING), 0)


def test_c13_one_call_restores_all_that_a_leaked_key_said() -> None:
    book = granted_book()
    allowed = permitted(SHOP, book.state, at(5))
    for purpose in (ANALYTICS, PERSONAL, MARKETING, ADVERTISING, FRAUD):
        book.say(purpose, Decision.DENIED, STRANGER, 10)
    assert permitted(SHOP, book.state, at(11)) == SHOP.always_mask
    book.write(invalidation_entries(book.standing, STRANGER.source, at(6), at(20)))
    assert permitted(SHOP, book.state, at(21)) == allowed
    assert invalidation_entries(book.standing, 99, at(0), at(30)) == ()


def test_c13_a_stranger_s_grant_is_recorded_as_claimed_and_has_no_effect() -> None:
    book = Book()
    outcome = book.say(ADVERTISING, Decision.GRANTED, STRANGER, 1)
    assert [entry.claimed for entry in outcome.entries] == [True]
    assert book.state.granted == 0
    book.stamp(ALL_TRUE, SERVER, 2)
    assert book.state.granted & mask(ADVERTISING), "and it does not stand in the way of a real one"


def test_a_block_becomes_a_refusal_after_the_grace_and_not_before() -> None:
    book = granted_book()
    book.say(ADVERTISING, Decision.DENIED, STRANGER, 10)
    book.say(ADVERTISING, Decision.DENIED, STRANGER, 500)  # repeating it does not begin the grace again
    assert grace_entries(book.standing, at(9.999999 + GRACE_SECONDS)) == ()
    entries = book.write(grace_entries(book.standing, at(10 + GRACE_SECONDS)))
    assert [(entry.purpose, entry.decision, entry.how) for entry in entries] == [
        (ADVERTISING, Decision.WITHDRAWN, How.GRACE)
    ]
    assert book.state.refused == mask(ADVERTISING)
    assert book.state.blocked == 0
    assert wraps_lost(SHOP, entries) == mask(ADVERTISING)


@pytest.mark.parametrize("speaker", [LAPTOP, SERVER, PERSON])
def test_a_block_is_overturned_by_whoever_speaks_for_the_person(speaker: Speaker) -> None:
    book = granted_book()
    book.say(ADVERTISING, Decision.DENIED, STRANGER, 10)
    book.say(ADVERTISING, Decision.GRANTED, speaker, 9)
    assert book.state.blocked == mask(ADVERTISING), "said before the block"
    book.say(ADVERTISING, Decision.GRANTED, speaker, 20)
    assert book.state.blocked == 0
    assert grace_entries(book.standing, at(20 + 2 * GRACE_SECONDS)) == ()


def test_a_stranger_s_block_does_not_lower_the_rank_of_a_refusal() -> None:
    book = granted_book()
    book.say(ADVERTISING, Decision.WITHDRAWN, PERSON, 10)
    book.say(ADVERTISING, Decision.DENIED, STRANGER, 11)
    book.say(ADVERTISING, Decision.GRANTED, SERVER, 20)
    assert book.state.refused == book.state.blocked == mask(ADVERTISING)


# --- voiding, ending, carrying, copying --------------------------------------------------------------------------------


def test_c5_the_grants_of_a_leaked_key_are_void_and_no_stamp_writes_them_again() -> None:
    book = Book()
    book.stamp(ALL_TRUE, SERVER, 0)
    book.write(invalidation_entries(book.standing, SERVER.source, at(0), at(10)))
    assert book.state.granted == 0
    assert book.stamp(ALL_TRUE, SERVER, 11) == ()
    book.say(ANALYTICS, Decision.GRANTED, SERVER, 12)
    assert book.state.granted == mask(ANALYTICS)


def test_c5_what_the_key_said_before_that_time_stands_and_so_does_what_others_said() -> None:
    book = Book()
    book.stamp({"analytics": True}, SERVER, 0)
    book.say(MARKETING, Decision.GRANTED, PERSON, 5)
    book.say(ADVERTISING, Decision.GRANTED, SERVER, 10)
    book.write(invalidation_entries(book.standing, SERVER.source, at(1), at(20)))
    assert book.state.granted == mask(ANALYTICS, MARKETING)


def test_c5_a_purpose_of_which_the_key_said_nothing_since_then_gets_no_entry() -> None:
    book = Book()
    book.stamp({"analytics": True}, SERVER, 0)
    book.say(ADVERTISING, Decision.GRANTED, SERVER, 10)
    entries = invalidation_entries(book.standing, SERVER.source, at(1), at(20))
    assert [entry.purpose for entry in entries] == [ADVERTISING]


def test_a_voided_grant_uncovers_the_refusal_that_it_had_overturned() -> None:
    book = granted_book()
    book.say(ANALYTICS, Decision.WITHDRAWN, PHONE, 10)
    book.say(ANALYTICS, Decision.GRANTED, SERVER, 20)
    book.write(invalidation_entries(book.standing, SERVER.source, at(15), at(30)))
    assert book.state.refused == mask(ANALYTICS)


def test_people_and_officers_cannot_be_voided() -> None:
    with pytest.raises(ValueError, match="a source"):
        invalidation_entries(granted_book().standing, 0, at(0), at(1))


def test_the_end_of_a_grant_is_written_once() -> None:
    book = granted_book()
    ends = dict(book.state.expiries)[ANALYTICS]
    assert expiry_entries(book.standing, Micros(ends - 1)) == ()
    entries = book.write(expiry_entries(book.standing, ends))
    assert {entry.decision for entry in entries} == {Decision.EXPIRED}
    assert book.state.granted == book.state.refused == 0
    assert wraps_lost(SHOP, entries) == 0
    assert expiry_entries(book.standing, Micros(ends * 2)) == ()


def test_d15_an_objection_that_outlived_an_erasure_binds_the_new_subject() -> None:
    book = Book()
    book.write(carried_entries(SHOP, mask(MARKETING, 60), at(100), at(50)))
    assert book.state.objected == mask(MARKETING), "a purpose that no longer exists is left out"
    assert book.stamp(ALL_TRUE, SERVER, 60) != ()
    assert not permitted(SHOP, book.state, at(61)) & mask(MARKETING)
    book.say(MARKETING, Decision.GRANTED, SERVER, 70)
    assert book.state.objected == mask(MARKETING), "a server source does not overturn a person"


def test_a_choice_made_while_joined_reaches_every_member_where_it_counts() -> None:
    author, member = granted_book(), granted_book()
    member.say(ANALYTICS, Decision.WITHDRAWN, PERSON, 10)
    said = author.change({"analytics": True, "advertising": False}, SERVER, 20).entries
    copied = member.write(copied_to_member(said, member.standing))
    assert {entry.purpose for entry in copied} == {MARKETING, ADVERTISING}
    assert member.state.refused == mask(ANALYTICS, MARKETING, ADVERTISING)


def test_a_report_can_only_lower_and_a_server_source_may_raise_again() -> None:
    book = granted_book()
    recipient = Speaker(authority=Authority.SERVER)
    book.act([Said(purpose=MARKETING, decision=Decision.WITHDRAWN)], recipient, 10, How.REPORT)
    assert book.state.refused == mask(MARKETING)
