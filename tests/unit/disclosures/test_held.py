"""Claims about what a recipient holds: whatever the order of lines, held and gone tell the truth about what was sent."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from vault.clock import Micros
from vault.disclosures.held import Held, after_removal, after_upsert, retracted

ROOT = UUID(int=1)
OBJECTS = st.frozensets(st.integers(1, 6))
LINES = st.lists(OBJECTS | st.just("remove"), max_size=12)


def test_what_a_line_leaves_out_is_retracted() -> None:
    held = after_upsert(Held(ROOT, 1), frozenset((1, 2)), 5)
    assert retracted(held, frozenset((2, 3))) == {1}
    later = after_upsert(held, frozenset((2, 3)), 9)
    assert (sorted(later.fields), sorted(later.gone), later.gone_number) == ([2, 3], [1], 9)


def test_what_is_sent_again_is_no_longer_gone() -> None:
    held = after_upsert(after_upsert(Held(ROOT, 1), frozenset((1,)), 1), frozenset(), 2)
    assert held.gone == {1}
    assert after_upsert(held, frozenset((1,)), 3).gone == frozenset()


def test_a_removal_leaves_nothing_held_and_names_its_reason() -> None:
    removed = after_removal(after_upsert(Held(ROOT, 1), frozenset((1, 2)), 1), 4, "merged", UUID(int=2))
    assert (sorted(removed.fields), sorted(removed.gone), removed.removed_number) == ([], [1, 2], 4)
    assert (removed.reason, removed.into_root) == ("merged", UUID(int=2))
    back = after_upsert(removed, frozenset((2,)), 5)
    assert (back.removed_number, back.reason, back.into_root, sorted(back.gone)) == (None, None, None, [1])


def test_a_second_removal_keeps_the_number_of_the_first_and_its_acknowledgement() -> None:
    removed = after_removal(after_upsert(Held(ROOT, 1), frozenset((1,)), 1), 2, "withdrawn")
    done = Held(**{name: getattr(removed, name) for name in Held.__struct_fields__} | {"acknowledged_at": Micros(9)})
    again = after_removal(done, 7, "erased")
    assert (again.removed_number, again.reason, again.acknowledged_at) == (2, "erased", 9)


def test_an_acknowledgement_does_not_cover_what_was_told_after_it() -> None:
    told = after_upsert(after_upsert(Held(ROOT, 1), frozenset((1, 2)), 1), frozenset((2,)), 2)
    assert told.told
    done = Held(**{name: getattr(told, name) for name in Held.__struct_fields__} | {"acknowledged_at": Micros(9)})
    assert not done.told
    assert after_upsert(done, frozenset((2,)), 3).acknowledged_at == 9
    assert after_upsert(done, frozenset(), 3).told
    assert after_removal(done, 3, "erased").told


def test_one_who_was_told_nothing_owes_nothing() -> None:
    assert not after_upsert(Held(ROOT, 1), frozenset((1,)), 1).told


@given(LINES)
def test_held_is_the_last_line_and_gone_is_all_else_that_was_ever_sent(lines: list[frozenset[int] | str]) -> None:
    state = Held(ROOT, 1)
    ever: set[int] = set()
    last: frozenset[int] = frozenset()
    for number, line in enumerate(lines, 1):
        if isinstance(line, str):
            state, last = after_removal(state, number, "withdrawn"), frozenset()
        else:
            state, last = after_upsert(state, line, number), line
            ever |= line
        assert state.fields == last
        assert state.gone == ever - last
