"""Choices on their whole way: a stamp limits, an act decides, a withdrawal takes keys at once, and nothing widens again."""

import itertools
from datetime import timedelta

import pytest

from tests.fakes import START
from tests.worlds import ALL, NONE, World, identify, message, order, preference, say, stamp, track
from vault.audit.entry import Tag
from vault.catalogue.numbers import RIGHTS
from vault.consent.act import GRACE
from vault.consent.ledger import Decision, How
from vault.errors import Conflict, Invalid, NotFound
from vault.journal.narrowing import Objection, Refusal, RefusalKind, RemovedWraps

DAY = 86_400.0


def mask(world: World, *names: str) -> int:
    return world.vault.catalogue.mask(names)


def wait(world: World, seconds: float = 60) -> None:
    world.vault.clock.advance(seconds)  # type: ignore[attr-defined]


async def customer(world: World) -> None:
    """Ada agreed to everything and bought something."""
    await world.send(identify("u-1", email="ada@example.com", firstName="Ada"), order("u-1", 250))
    wait(world)


# --- stamps limit -------------------------------------------------------------------------------------------------------


async def test_a_first_stamp_grants_and_a_second_renews_nothing(world: World) -> None:
    await world.send(order("u-1"))
    before = await world.state("u-1")
    wait(world, DAY)
    await world.send(order("u-1"))
    after = await world.state("u-1")
    assert (after.ledger_count, after.expiries) == (before.ledger_count, before.expiries)


async def test_a_denying_stamp_where_nothing_was_granted_is_no_choice(world: World) -> None:
    await world.send(order("u-1", agree=NONE))
    assert await world.stands("u-1") == {}
    await world.send(order("u-1", agree=ALL))
    assert set((await world.stands("u-1")).values()) == {"granted"}


async def test_a_server_stamp_takes_back_its_own_word_and_gives_it_again(world: World) -> None:
    await customer(world)
    await world.send(order("u-1", agree=stamp(analytics=False)))
    assert (await world.stands("u-1"))["analytics"] == "withdrawn"
    wait(world)
    await world.send(order("u-1", 3))
    assert (await world.stands("u-1"))["analytics"] == "granted"
    assert (await world.traits("warehouse"))["lifetime_value"] == 3


async def test_a_server_speaks_for_its_user_whatever_device_it_names(world: World) -> None:
    """The latest word of a server source is that about the user: a denial may come from another device's session."""
    await world.send(order("u-1", anon="d-1"))
    wait(world)
    await world.send(order("u-1", anon="d-2", agree=stamp(analytics=False)))
    assert (await world.stands("u-1"))["analytics"] == "withdrawn"


async def test_a_stale_stamp_of_another_device_does_not_overturn_an_act(world: World) -> None:
    """Threat C11."""
    await world.send(order("u-1", anon="d-1"), order("u-1", anon="d-2"))
    wait(world)
    await world.send(preference("u-1", anon="d-1", analytics=False, advertising=False))
    for _ in range(3):
        wait(world)
        await world.send(order("u-1", 999, anon="d-2", agree=ALL))
        await world.send(order(None, 999, anon="d-2", agree=ALL), source="app")
    stands = await world.stands("u-1")
    assert (stands["analytics"], stands["advertising"], stands["personalisation"]) == (
        "withdrawn",
        "withdrawn",
        "granted",
    )
    assert await world.feed("warehouse") == []


async def test_a_new_device_that_denies_by_default_takes_nothing_away(world: World) -> None:
    """Threat C12."""
    await world.send(order("u-1", 250, anon="d-1"))
    keys = await world.rows("SELECT wraps FROM keys.subject_key")
    wait(world)
    outcome = await world.send(track("Product Viewed", None, anon="d-2", sku="s", agree=NONE), source="app")
    assert outcome.stored == 0
    await world.send(order("u-1", 9, anon="d-2", agree=NONE), source="app")
    await world.send(message("identify", "u-1", anon="d-2", agree=NONE), source="till")
    assert (await world.stands("u-1"))["analytics"] == "granted"
    assert [row for row in keys if row not in await world.rows("SELECT wraps FROM keys.subject_key")] == []
    assert (await world.traits("warehouse"))["lifetime_value"] == 250  # its own events were limited


# --- acts decide --------------------------------------------------------------------------------------------------------


async def test_a_change_event_leaves_choices_and_no_event(world: World) -> None:
    outcome = await world.send(preference("u-1", analytics=True, advertising=False))
    assert outcome.stored == 1
    assert await world.stands("u-1") == {"analytics": "granted", "marketing": "denied", "advertising": "denied"}
    assert (await world.count("event"), await world.count("dedup")) == (0, 1)


async def test_choices_of_the_message_itself_count_for_it(world: World) -> None:
    await world.send(preference("u-1", analytics=False), order("u-1", agree=ALL))
    assert await world.feed("warehouse") == []
    wait(world)
    await world.send(preference("u-1", analytics=True), order("u-1", 4, agree=ALL))
    assert (await world.traits("warehouse"))["lifetime_value"] == 4


async def test_choose_answers_where_everything_stands(world: World) -> None:
    outcome = await world.choose(say("analytics", "granted"), say("marketing", "denied"), user="u-1")
    assert outcome.sequence == 2
    assert outcome.state == {
        "service": "permitted",
        "support": "permitted",
        "accounting": "permitted",
        "fraud_prevention": "permitted",
        "analytics": "granted",
        "personalisation": "undecided",
        "marketing": "refused",
        "advertising": "undecided",
    }


async def test_the_same_act_twice_is_one_act(world: World) -> None:
    act = say("analytics", "granted", evidence={"form": "v1"})
    first = await world.choose(act, user="u-1", id="c")
    again = await world.choose(act, user="u-1", id="c")
    assert first == again
    with pytest.raises(Conflict):
        await world.choose(say("marketing", "granted"), user="u-1", id="c")
    assert await world.stands("u-1") == {"analytics": "granted"}


async def test_the_state_of_a_joined_profile_is_what_it_permits(world: World) -> None:
    """One member refused before they were joined: nobody is told `granted`."""
    await world.send(preference(None, anon="d-1", analytics=False), preference("u-1", analytics=True))
    await world.send(message("track", "u-1", anon="d-1", event="Signed In"))
    outcome = await world.choose(say("personalisation", "granted"), user="u-1")
    assert outcome.state["analytics"] == "refused"
    assert outcome.state["personalisation"] == "granted"


@pytest.mark.parametrize(
    "act",
    [
        say("analitics", "granted"),
        say("Analytics", "granted"),
        say("*", "granted"),
        say("analytics", "expired"),
        say("analytics", "granted", notice="analytics/999"),
        say("analytics", "granted", covers=("shoeSize",)),
    ],
)
async def test_an_act_about_nothing_known_is_refused_whole(world: World, act: object) -> None:
    """Threat C7."""
    with pytest.raises(Invalid):
        await world.choose(say("analytics", "granted"), act, user="u-1")  # type: ignore[arg-type]
    assert await world.count("subject") == 0


async def test_an_act_of_nobody_is_refused(world: World) -> None:
    with pytest.raises(Invalid):
        await world.choose(say("analytics", "granted"))
    with pytest.raises(NotFound):
        await world.choose(say("analytics", "granted"), user="null")


async def test_evidence_is_sealed_and_outlives_a_withdrawal(world: World) -> None:
    await world.choose(say("analytics", "granted", evidence={"text": "planted evidence"}), user="u-1")
    await world.send(order("u-1"))
    wait(world)
    await world.choose(say("analytics", "withdrawn"), user="u-1")
    (row,) = await world.rows("SELECT evidence FROM ledger WHERE evidence IS NOT NULL")
    assert b"planted" not in row[0]
    assert (0, 1) in {
        (c.wrapped.purposes, c.wrapped.generation) for c in (await world.draft("u-1")).compartments.values()
    }


async def test_a_contract_purpose_cannot_be_chosen(world: World) -> None:
    outcome = await world.choose(say("service", "withdrawn"), say("fraud_prevention", "objected"), user="u-1")
    assert outcome.state["service"] == "permitted"
    assert outcome.ignored == ("service",)  # said, not passed over: the rest of the act counts
    assert outcome.state["fraud_prevention"] == "objected"
    assert await world.stands("u-1") == {"fraud_prevention": "objected"}
    assert [e.narrowing for e in world.journal() if isinstance(e.narrowing, Objection)]


# --- withdrawal ---------------------------------------------------------------------------------------------------------


async def test_a_withdrawal_takes_wraps_masks_and_journal_in_one_go(world: World) -> None:
    await customer(world)
    before = (await world.draft("u-1")).compartments
    await world.choose(say("advertising", "withdrawn"), user="u-1")
    draft = await world.draft("u-1")
    one = mask(world, "advertising")
    assert draft.state.refused & one
    assert not draft.state.granted & one
    assert all(not c.wrapped.held & one for c in draft.compartments.values())
    ((wraps,),) = await world.rows("SELECT wraps FROM keys.subject_key")
    taken = {
        (c.wrapped.compartment_id, w.purpose)
        for place, c in before.items()
        for w in c.wrapped.wraps
        if w.purpose == one.bit_length() - 1 or place not in draft.compartments
    }
    assert all(wrap.blob not in wraps for c in before.values() for wrap in c.wrapped.wraps if wrap.purpose == 7)
    narrowed = [entry.narrowing for entry in world.journal()]
    assert [(r.purposes, r.kind) for r in narrowed if isinstance(r, Refusal)] == [(one, RefusalKind.DECIDED)]
    (removed,) = (r for r in narrowed if isinstance(r, RemovedWraps))
    assert set(removed.wraps) == taken
    assert {purpose for _, purpose in taken} == {7, RIGHTS}  # the membership and the sum were for advertising alone


async def test_the_journal_knows_before_the_database_does(world: World) -> None:
    """No journal, no withdrawal: nothing is acknowledged that a restore could forget."""
    await customer(world)

    async def broken(_: object) -> int:
        raise OSError

    kept, world.vault.journal.append = world.vault.journal.append, broken  # type: ignore[assignment]
    with pytest.raises(OSError):  # noqa: PT011 - the one above
        await world.choose(say("advertising", "withdrawn"), user="u-1")
    assert (await world.stands("u-1"))["advertising"] == "granted"
    world.vault.journal.append = kept  # type: ignore[method-assign]
    await world.choose(say("advertising", "withdrawn"), user="u-1")
    assert (await world.stands("u-1"))["advertising"] == "withdrawn"


async def test_one_refusal_leaves_every_other_wrap_byte_for_byte(world: World) -> None:
    await customer(world)

    async def wraps() -> set[tuple[bytes, int, bytes]]:
        found = (await world.draft("u-1")).compartments.values()
        return {(c.wrapped.compartment_id, w.purpose, w.blob) for c in found for w in c.wrapped.wraps}

    before = await wraps()
    await world.choose(say("marketing", "withdrawn"), user="u-1")
    after = await wraps()
    assert after < before
    assert {purpose for _, purpose, _ in before - after} <= {6, RIGHTS}


async def test_a_new_grant_opens_a_new_generation_and_no_old_data(world: World) -> None:
    await customer(world)
    await world.choose(say("marketing", "withdrawn"), user="u-1")
    wait(world)
    await world.choose(say("marketing", "granted"), user="u-1")
    assert await world.feed("email-tool") == []
    await world.send(identify("u-1", firstName="Ada"))
    assert await world.traits("email-tool") == {"firstName": "Ada"}
    generations = {c.wrapped.generation for c in (await world.draft("u-1")).compartments.values()}
    assert max(generations) > 1


async def test_a_grant_reaches_back_to_the_fields_that_it_names(world: World) -> None:
    await customer(world)
    await world.choose(say("marketing", "withdrawn"), user="u-1")
    wait(world)
    await world.choose(say("marketing", "granted", covers=("email",)), user="u-1")
    assert await world.traits("email-tool") == {"email": "ada@example.com"}
    events = await world.rows("SELECT purposes, generation FROM event")
    places = {(c.wrapped.purposes, c.wrapped.generation): c for c in (await world.draft("u-1")).compartments.values()}
    assert not any(
        places[row[0], row[1]].wrapped.held & mask(world, "marketing") for row in events if (row[0], row[1]) in places
    )


async def test_a_grant_reaches_back_only_where_the_catalogue_allows(world: World) -> None:
    await world.send(identify("u-1", lastName="Lovelace", agree=NONE))
    await world.choose(say("marketing", "granted", covers=("lastName",)), user="u-1")
    wanted = mask(world, "marketing")
    assert all(not c.wrapped.held & wanted for c in (await world.draft("u-1")).compartments.values())


async def test_a_browser_reaches_back_to_nothing(world: World) -> None:
    await world.send(identify(None, anon="d-1", firstName="Ada", agree=NONE), source="app")
    await world.choose(say("marketing", "granted", covers=("firstName",)), anon="d-1", source="app")
    assert await world.feed("email-tool") == []


# --- nothing widens again -----------------------------------------------------------------------------------------------


async def test_an_old_grant_sent_again_opens_nothing(world: World) -> None:
    """Threat C1: the same bytes, another id, another time, another source."""
    await world.send(order("u-1"))
    wait(world)
    grant = preference("u-1", id="grant", at="2026-03-02T09:00:30Z", analytics=True, advertising=True)
    await world.send(grant)
    wait(world)
    await world.send(preference("u-1", analytics=False, advertising=False))
    wait(world)
    outcome = await world.send(grant)
    assert [d.code for d in outcome.dropped] == ["duplicate"]
    await world.send({**grant, "messageId": "other id"})
    await world.send({**grant, "messageId": "other time", "timestamp": "1970-01-01T00:00:00Z"})
    await world.send(grant, source="till")
    await world.send({**grant, "anonymousId": "d-1"}, source="app")
    stands = await world.stands("u-1")
    assert (stands["analytics"], stands["advertising"]) == ("withdrawn", "withdrawn")
    entries = await world.audited(Tag.CONSENT_GRANT_IGNORED)
    assert [entry.detail for entry in entries] == [
        {"reasons": ["stale_grant"]}
    ] * 3  # of the same bytes nothing is said


@pytest.mark.parametrize(
    "at", ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2036-03-02T09:00:00Z", "2016-12-31T23:59:60Z", "yesterday"]
)
async def test_a_withdrawal_counts_whatever_time_it_claims(world: World, at: str) -> None:
    """Threat C2."""
    await customer(world)
    await world.send(preference("u-1", analytics=False, at=at))
    assert (await world.stands("u-1"))["analytics"] == "withdrawn"
    await world.send(preference("u-1", analytics=True, at="2026-03-02T09:00:00Z"))
    assert (await world.stands("u-1"))["analytics"] == "withdrawn"


async def test_a_grant_from_the_future_says_no_more_than_one_from_now(world: World) -> None:
    """Threat C2: a grant that claims ten years ahead must not outlive the next withdrawal."""
    await world.send(preference("u-1", analytics=True, at="2036-03-02T09:00:00Z"))
    wait(world)
    await world.send(preference("u-1", analytics=False))
    wait(world)
    await world.send(preference("u-1", analytics=True, at="2026-03-02T09:00:30Z"))
    assert (await world.stands("u-1"))["analytics"] == "withdrawn"


async def test_whatever_the_order_the_latest_refusal_holds(world: World) -> None:
    """Threat C3: every order of arrival of three acts said before the refusal that comes last in time."""
    acts = [
        {"at": "2026-03-01T01:00:00Z", "analytics": True},
        {"at": "2026-03-01T02:00:00Z", "analytics": False},
        {"at": "2026-03-01T03:00:00Z", "analytics": True},
        {"at": "2026-03-01T04:00:00Z", "analytics": False},
    ]
    for number, turn in enumerate(itertools.permutations(acts)):
        await world.send(*(preference(f"u-{number}", **act) for act in turn))  # type: ignore[arg-type]
        assert (await world.stands(f"u-{number}"))["analytics"] in {"withdrawn", "denied"}


# --- time ---------------------------------------------------------------------------------------------------------------


async def test_a_choice_ends_at_its_time_and_is_written_down(world: World) -> None:
    await customer(world)
    await world.settle()
    _, cursor = await world.lines("warehouse")
    state = await world.state("u-1")
    (ends,) = {at for _, at in state.expiries}
    assert ends == START + (world.vault.catalogue.purposes["analytics"].expires or 0)
    world.vault.clock.at = ends - 1  # type: ignore[attr-defined]
    await world.settle()
    assert (await world.lines("warehouse", cursor))[0] == []
    world.vault.clock.at = ends  # type: ignore[attr-defined]
    assert await world.feed("warehouse") == []  # `feed` settles first
    assert (await world.stands("u-1"))["analytics"] == "expired"
    lines, _ = await world.lines("warehouse", cursor)
    assert [(line["op"], line["reason"]) for line in lines] == [("remove", "expired")]
    assert await world.rows("SELECT 1 FROM due WHERE at <= $1", ends) == []


async def test_an_end_binds_before_anyone_settles(world: World) -> None:
    await customer(world)
    await world.settle()
    ends = (await world.state("u-1")).expiries[0][1]
    world.vault.clock.at = ends  # type: ignore[attr-defined]
    lines, _ = await world.lines("warehouse")
    assert [line["op"] for line in lines] == ["reset", "snapshot_end"]
    outcome = await world.send(track("Email Opened", "u-1", campaign_id="c"))
    assert [d.code for d in outcome.dropped] == ["no_choice"]  # an expired choice is an entry: no stamp grants again


async def test_what_lost_its_keys_is_swept_and_nothing_else(world: World) -> None:
    await world.send(track("Application Opened", "u-1", version="1"), order("u-1", 5))
    wait(world)
    await world.send(preference("u-1", analytics=False))
    wait(world)
    await world.send(preference("u-1", analytics=True), track("Application Opened", "u-1", version="2"))
    opened = "SELECT generation FROM event WHERE kind = 24 ORDER BY 1"
    first, second = [row[0] for row in await world.rows(opened)]
    assert first < second  # a key that is gone is never taken for one that came after it
    others = await world.rows("SELECT count(*) FROM event WHERE kind <> 24")
    await world.settle()
    assert [row[0] for row in await world.rows(opened)] == [second]
    assert await world.rows("SELECT count(*) FROM event WHERE kind <> 24") == others


async def test_settling_again_changes_nothing(world: World) -> None:
    await customer(world)
    world.vault.clock.at = (await world.state("u-1")).expiries[0][1]  # type: ignore[attr-defined]
    await world.settle()
    before = await world.state("u-1")
    await world.settle()
    assert await world.state("u-1") == before


# --- what a browser says of others --------------------------------------------------------------------------------------


async def test_a_claimed_refusal_blocks_at_once_and_destroys_nothing(world: World) -> None:
    """Threat C13."""
    await customer(world)
    keys = await world.rows("SELECT wraps FROM keys.subject_key ORDER BY 1")
    await world.send(preference("u-1", anon="d-9", analytics=False, advertising=False, functional=False), source="app")
    assert await world.feed("warehouse") == []
    assert await world.feed("email-tool") == []
    state = await world.state("u-1")
    assert state.blocked == mask(world, "analytics", "personalisation", "marketing", "advertising")
    assert [row for row in keys if row not in await world.rows("SELECT wraps FROM keys.subject_key")] == []
    kinds = {
        e.narrowing.kind
        for e in world.journal()
        if isinstance(e.narrowing, Refusal) and e.narrowing.subject == state.subject
    }
    assert kinds == {RefusalKind.BLOCKED}
    wait(world)
    await world.choose(say("analytics", "granted"), user="u-1")
    assert (await world.traits("warehouse"))["lifetime_value"] == 250  # overturned: nothing was lost


async def test_a_claimed_refusal_that_nobody_overturns_takes_the_wraps_after_the_grace(world: World) -> None:
    await customer(world)
    await world.send(preference("u-1", anon="d-9", analytics=False), source="app")
    blocked_at = world.now()
    world.vault.clock.at = blocked_at + GRACE - 1  # type: ignore[attr-defined]
    await world.settle()
    one = mask(world, "analytics")
    assert any(c.wrapped.held & one for c in (await world.draft("u-1")).compartments.values())
    world.vault.clock.at = blocked_at + GRACE  # type: ignore[attr-defined]
    await world.settle()
    draft = await world.draft("u-1")
    assert not any(c.wrapped.held & one for c in draft.compartments.values())
    assert (draft.state.refused & one, draft.state.blocked & one) == (one, 0)
    last = (await world.ledger(draft.subject))[-1]
    assert (last.decision, last.how) == (Decision.WITHDRAWN, How.GRACE)


async def test_a_claimed_grant_has_no_effect(world: World) -> None:
    """Threat C13."""
    await customer(world)
    await world.choose(say("analytics", "withdrawn"), user="u-1")
    wait(world)
    await world.choose(say("analytics", "granted"), user="u-1", anon="d-9", source="app")
    assert (await world.stands("u-1"))["analytics"] == "withdrawn"
    assert await world.feed("warehouse") == []


async def test_a_browser_is_not_told_where_a_person_stands(world: World) -> None:
    """Threat B1: the answer is about the device that speaks."""
    await customer(world)
    outcome = await world.choose(say("personalisation", "denied"), user="u-1", anon="d-9", source="app")
    assert outcome.sequence == 1
    assert outcome.state["analytics"] == "undecided"


async def test_years_of_choices_end_where_their_fold_says(world: World) -> None:
    """Withdrawn, granted, ended, granted again: every step leaves state, keys and ledger of one mind."""
    await customer(world)
    for number in range(3):
        await world.choose(say("analytics", "withdrawn"), user="u-1")
        wait(world)
        await world.choose(say("analytics", "granted"), user="u-1")
        await world.send(order("u-1", number))
        wait(world, timedelta(days=1_200).total_seconds())
        await world.settle()
        assert (await world.stands("u-1"))["analytics"] == "expired"
        await world.check()
        wait(world)
