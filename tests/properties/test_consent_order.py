"""No order, replay, clock or speaker ever widens: claims about all ledgers (threats C1, C2, C3, C11, C12, C13)."""

from itertools import permutations

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from tests.shop import ADVERTISING, ANALYTICS, FRAUD, SHOP, mask
from tests.unit.consent.said import ALL_TRUE, LAPTOP, OFFICER, PERSON, PHONE, SERVER, STRANGER, Book, at, state_of
from vault.clock import Micros
from vault.consent.act import Said, act_entries
from vault.consent.decision import permitted
from vault.consent.ledger import REFUSALS, Authority, Choice, Decision, How, pack_choice, parse_choice
from vault.consent.stamp import Speaker
from vault.consent.standing import apply, fold, outranked

PURPOSES = (ANALYTICS, ADVERTISING)
SPEAKERS = (PHONE, LAPTOP, SERVER, PERSON, OFFICER)
times = st.integers(0, 20)


class Act(msgspec.Struct, frozen=True):
    """Somebody says yes or no at a time."""

    speaker: Speaker
    grants: bool
    when: int


acts = st.builds(Act, st.sampled_from(SPEAKERS), st.booleans(), times)
claims = st.builds(Act, st.just(STRANGER), st.booleans(), times)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    """Any entry that can be written."""
    decision = draw(st.sampled_from(Decision))
    how = draw(st.sampled_from(How))
    said, received = sorted((draw(times), draw(times)))
    return Choice(
        purpose=draw(st.sampled_from(PURPOSES)),
        decision=decision,
        how=how,
        authority=draw(st.sampled_from(Authority)),
        said_at=at(said),
        received_at=at(received),
        source=draw(st.integers(1, 3)) if decision is Decision.INVALIDATED else draw(st.integers(0, 3)),
        device=draw(st.sampled_from((b"", b"d" * 16, b"e" * 16))),
        claimed=draw(st.booleans()),
        ends=at(draw(times)) if decision is Decision.GRANTED and draw(st.booleans()) else None,
    )


ledgers = st.lists(choices(), max_size=12)


def judged(order: "list[Act] | tuple[Act, ...]") -> Book:
    """Acts that arrive in this order, all long after they were said."""
    book = Book()
    for number, act in enumerate(order):
        decision = Decision.GRANTED if act.grants else Decision.WITHDRAWN
        said = [Said(purpose=ANALYTICS, decision=decision)]
        book.act(said, act.speaker, act.when, received=1000 + number)
    return book


def allows(book: Book) -> bool:
    return bool(permitted(SHOP, book.state, at(5000)) & mask(ANALYTICS))


@given(choices())
def test_every_entry_survives_its_bytes(choice: Choice) -> None:
    assert parse_choice(pack_choice(choice)) == choice


@given(ledgers)
def test_the_fold_is_the_same_entry_by_entry(ledger: list[Choice]) -> None:
    standing = fold([])
    for number, choice in enumerate(ledger, 1):
        standing = apply(standing, choice)
        assert standing == fold(ledger[:number])


@given(ledgers)
def test_the_masks_of_any_ledger_make_a_sound_state(ledger: list[Choice]) -> None:
    state = state_of(fold(ledger))
    assert not state.granted & state.refused
    assert [purpose for purpose, _ in state.expiries] == sorted({purpose for purpose, _ in state.expiries})
    assert all(state.granted >> purpose & 1 for purpose, _ in state.expiries)
    assert state.objected & ~state.refused == 0


@given(ledgers, choices())
def test_any_refusal_counts_at_once(ledger: list[Choice], choice: Choice) -> None:
    standing = apply(fold(ledger), msgspec.structs.replace(choice, decision=Decision.DENIED, ends=None))
    assert not permitted(SHOP, state_of(standing), at(-1)) & mask(choice.purpose)


@given(ledgers, choices())
def test_c13_a_claimed_grant_changes_nothing(ledger: list[Choice], choice: Choice) -> None:
    claimed = msgspec.structs.replace(choice, decision=Decision.GRANTED, claimed=True)
    before = fold(ledger)
    assert apply(before, claimed).masks() == before.masks()
    assert apply(before, claimed).of(choice.purpose) == before.of(choice.purpose)


@given(ledgers, choices())
def test_one_purpose_never_touches_another(ledger: list[Choice], choice: Choice) -> None:
    other = ADVERTISING if choice.purpose == ANALYTICS else ANALYTICS
    before = fold(ledger)
    assert apply(before, choice).of(other) == before.of(other)


@given(st.lists(acts, min_size=1, max_size=12))
def test_c1_repeating_any_of_it_changes_no_mind(order: list[Act]) -> None:
    book = judged(order)
    before = allows(book)
    for number, act in enumerate(order):
        if act.grants:
            book.act(
                [Said(purpose=ANALYTICS, decision=Decision.GRANTED)], act.speaker, act.when, received=2000 + number
            )
            assert allows(book) == before


@example([Act(SERVER, False, 0), Act(PHONE, True, 1)], Act(PERSON, True, 1), 0)
@given(st.lists(acts, min_size=1, max_size=12), acts, st.integers(0, 1_000_000))
def test_c1_after_a_refusal_no_old_grant_of_anybody_helps(order: list[Act], old: Act, lie: int) -> None:
    book = judged(order)
    book.act([Said(purpose=ANALYTICS, decision=Decision.WITHDRAWN)], PERSON, -lie, received=3000)
    latest = max(choice.said_at for choice in book.written)
    for known in (*order, old):
        if at(known.when) > latest:
            continue  # what was ignored left no time in the ledger, and the refusal lied about its own
        book.act([Said(purpose=ANALYTICS, decision=Decision.GRANTED)], known.speaker, known.when, received=4000)
        assert not allows(book)


@given(st.lists(acts, max_size=5), st.sampled_from(SPEAKERS))
def test_c3_every_order_of_six_events_with_a_refusal_last_said_ends_refused(some: list[Act], last: Speaker) -> None:
    everything = [*some, Act(last, False, 21)]
    for order in permutations(everything):
        assert not allows(judged(order))


@given(st.lists(acts, min_size=1, max_size=5))
def test_c3_no_order_permits_what_the_order_of_saying_refuses(some: list[Act]) -> None:
    # at one instant the no comes last: nobody can tell which was meant
    in_order = allows(judged(sorted(some, key=lambda act: (act.when, not act.grants))))
    assert in_order or not any(allows(judged(order)) for order in permutations(some))


@given(st.lists(st.one_of(acts, claims), min_size=1, max_size=10))
def test_c13_a_stranger_only_ever_lowers(order: list[Act]) -> None:
    without = judged([act for act in order if act.speaker is not STRANGER])
    assert allows(without) or not allows(judged(order))


@given(
    st.lists(st.tuples(st.sampled_from((PHONE, LAPTOP, SERVER)), st.booleans(), times), max_size=10),
    st.sampled_from(SPEAKERS),
    st.lists(st.tuples(st.sampled_from((PHONE, LAPTOP, SERVER)), times), max_size=6),
)
def test_c11_a_refusal_by_act_needs_an_act(
    before: list[tuple[Speaker, bool, int]], refuser: Speaker, after: list[tuple[Speaker, int]]
) -> None:
    book = Book()
    for speaker, yes, when in before:
        book.stamp(dict.fromkeys(ALL_TRUE, yes), speaker, when)
    book.say(ANALYTICS, Decision.WITHDRAWN, refuser, 21)
    for speaker, when in after:
        book.stamp(ALL_TRUE, speaker, 100 + when)
        assert not allows(book)


@given(st.lists(st.sampled_from((PHONE, LAPTOP, SERVER, STRANGER)), max_size=8))
def test_c12_denying_stamps_alone_never_make_an_entry(speakers: list[Speaker]) -> None:
    book = Book()
    for when, speaker in enumerate(speakers):
        assert book.stamp(dict.fromkeys(ALL_TRUE, False), speaker, when) == ()


@given(
    st.lists(
        st.tuples(
            st.sampled_from((PHONE, LAPTOP, SERVER, STRANGER)),
            st.dictionaries(st.sampled_from(sorted(ALL_TRUE)), st.booleans()),
            times,
            st.booleans(),
        ),
        max_size=14,
    )
)
def test_the_state_alone_never_hides_what_a_stamp_would_write(
    said: list[tuple[Speaker, dict[str, bool], int, bool]],
) -> None:
    book = Book()
    for speaker, preferences, when, act in said:
        if act:
            book.change(preferences, speaker, when)
        else:
            book.stamp(preferences, speaker, when)  # asserts it


@given(ledgers, st.sampled_from((*SPEAKERS, STRANGER)), st.sampled_from(Decision), times)
def test_an_entry_of_an_act_always_counts(
    ledger: list[Choice], speaker: Speaker, decision: Decision, when: int
) -> None:
    if decision in {Decision.EXPIRED, Decision.INVALIDATED}:
        return
    before = fold(ledger)
    outcome = act_entries(
        SHOP,
        before,
        [Said(purpose=ANALYTICS, decision=decision), Said(purpose=FRAUD, decision=decision)],
        speaker,
        how=How.API,
        said_at=at(when),
        received_at=at(50),
    )
    for choice in outcome.entries:
        if choice.decision is Decision.GRANTED and not choice.claimed:
            assert outranked(before.of(choice.purpose), choice) is None
            assert outcome.standing.masks().granted & mask(choice.purpose)
        if choice.decision in REFUSALS:
            masks = outcome.standing.masks()
            assert (masks.blocked if choice.claimed else masks.refused) & mask(choice.purpose)
    assert len(outcome.entries) + len(outcome.ignored) == 2


@given(ledgers, st.integers(1, 3), times)
def test_c5_what_is_voided_never_was(ledger: list[Choice], source: int, since: int) -> None:
    void = Choice(
        purpose=ANALYTICS,
        decision=Decision.INVALIDATED,
        how=How.OFFICER,
        authority=Authority.OFFICER,
        said_at=at(since),
        received_at=Micros(at(100)),
        source=source,
    )
    kept = [one for one in ledger if not (one.source == source and one.received_at >= at(since))]
    analytics = [one for one in kept if one.purpose == ANALYTICS]
    # an invalidation that was itself voided keeps its effect only if it stands: compare ledgers without any
    if any(one.decision is Decision.INVALIDATED for one in ledger):
        return
    voided, never = fold([*ledger, void]).of(ANALYTICS), fold(analytics).of(ANALYTICS)
    assert (voided.stand, voided.objected, voided.blocked_at, voided.ends) == (
        never.stand,
        never.objected,
        never.blocked_at,
        never.ends,
    )
