"""Claims about what one purpose sees: the newest value, the same from every process, over members and generations."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.catalogue.computed import Computed
from vault.catalogue.numbers import ACCUMULATORS, MEMBERSHIPS, event_object, identifier_object
from vault.errors import Unreadable
from vault.profile.computed import Accumulator, write_states
from vault.profile.sightings import Sighting, choose, join, read_sightings, write_sightings
from vault.profile.values import FieldHead
from vault.profile.view import computed_of, identifiers_of, newest, rank, view, write_memberships

EMAIL = identifier_object(2)


def head(field: int = 1, authority: int = 1, said_at: int = 0, key: bytes = bytes(16)) -> FieldHead:
    return FieldHead(field, 1, 1, key, authority, said_at, 28)


HEADS = st.builds(head, st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.binary(min_size=16, max_size=16))
SIGHTINGS = st.lists(
    st.builds(Sighting, st.sampled_from("abc"), st.integers(0, 5), st.integers(5, 9), st.integers(1, 2)), max_size=6
)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (head(said_at=1), head(said_at=2)),
        (head(authority=1, said_at=9), head(authority=2, said_at=1)),
        (head(key=b"a" * 16), head(key=b"b" * 16)),
    ],
)
def test_authority_beats_time_and_time_beats_the_event_key(older: FieldHead, newer: FieldHead) -> None:
    for order in ([older, newer], [newer, older]):
        assert view([(one, b"1" if one is newer else b"0") for one in order]).traits == {1: b"1"}


@given(st.lists(HEADS, unique_by=lambda one: one.event_key, max_size=10), st.randoms(use_true_random=False))
def test_the_view_does_not_hang_on_the_order_of_members(heads: list[FieldHead], chance: random.Random) -> None:
    fields = [(one, one.event_key.hex().encode()) for one in heads]
    seen = view(fields).traits
    assert seen == {
        f: max((h for h in heads if h.field == f), key=rank).event_key.hex().encode() for f in {h.field for h in heads}
    }
    chance.shuffle(fields)
    assert view(fields).traits == seen
    assert {field: value for field, (_, value) in newest(fields).items()} == seen


def test_a_deletion_hides_what_was_said_before_and_not_what_is_said_after() -> None:
    fields = [(head(said_at=1), b'"old"'), (head(said_at=2), b"null")]
    assert view(fields).traits == {}
    assert view([*fields, (head(said_at=3), b'"new"')]).traits == {1: b'"new"'}


def test_identifiers_of_all_members_are_chosen_from_together() -> None:
    one = write_sightings([Sighting("old@a", 1, 2, 1), Sighting("both@a", 3, 4, 1)])
    other = write_sightings([Sighting("both@a", 2, 9, 2), Sighting("mid@a", 5, 6, 2)])
    seen = view([(head(EMAIL), one), (head(EMAIL, authority=2), other)])
    assert identifiers_of(seen, {EMAIL: "last"}) == {EMAIL: ("both@a",)}
    assert identifiers_of(seen, {EMAIL: "first"}) == {EMAIL: ("old@a",)}
    assert identifiers_of(seen, {EMAIL: "all"}) == {EMAIL: ("both@a", "mid@a", "old@a")}
    assert identifiers_of(seen, {identifier_object(3): "all"}) == {}


@given(SIGHTINGS, st.randoms(use_true_random=False))
def test_joined_sightings_are_the_same_in_any_order(sightings: list[Sighting], chance: random.Random) -> None:
    joined = join(sightings)
    shuffled = list(sightings)
    chance.shuffle(shuffled)
    assert join(shuffled) == joined
    assert join([*joined, *sightings]) == joined
    assert read_sightings(write_sightings(joined)) == joined
    for value in {one.value for one in sightings}:
        of_value = [one for one in sightings if one.value == value]
        kept = next(one for one in joined if one.value == value)
        assert kept.first_said_at == min(one.first_said_at for one in of_value)
        assert kept.last_said_at == max(one.last_said_at for one in of_value)


@given(SIGHTINGS.filter(bool))
def test_each_choice_is_one_of_what_was_said(sightings: list[Sighting]) -> None:
    every = choose(sightings, "all")
    assert sorted(every) == sorted({one.value for one in sightings})
    assert choose(sightings, "last") == every[:1]
    assert choose(sightings, "first")[0] in every


def test_nothing_said_nothing_chosen() -> None:
    assert choose([], "last") == choose([], "first") == choose([], "all") == ()


def computed(**options: Any) -> Computed:
    fields: dict[str, Any] = {
        "number": 1, "name": "x", "kind": "sum", "event": 1, "property": "revenue", "type": "number",
        "category": "user.behavior", "purposes": 1, "version": 1, "title": "X",
    }  # fmt: skip
    return Computed(**(fields | options))


def test_computed_traits_are_joined_over_members() -> None:
    one = write_states({1: Accumulator(1, "9.95"), 2: Accumulator(1, 2)})
    other = write_states({1: Accumulator(1, "0.05"), 3: Accumulator(1, 7)})
    seen = view([(head(ACCUMULATORS), one), (head(ACCUMULATORS), other)])
    wanted = [
        computed(),
        computed(number=2, kind="count"),
        computed(number=3, kind="count", version=2),
        computed(number=4),
    ]
    assert computed_of(seen, wanted) == {1: b"10", 2: b"2"}


def test_memberships_are_those_judged_last() -> None:
    fields = [(head(MEMBERSHIPS, said_at=1), write_memberships([3, 1, 3])), (head(MEMBERSHIPS, said_at=2), b"[2]")]
    assert write_memberships([3, 1, 3]) == b"[1,3]"
    assert view(fields).audiences == {2}
    assert view([]).audiences == frozenset()


@pytest.mark.parametrize("field", [EMAIL, ACCUMULATORS, MEMBERSHIPS])
def test_a_malformed_plaintext_is_unreadable(field: int) -> None:
    with pytest.raises(Unreadable):
        view([(head(field), b'{"a":')])


def test_an_object_that_is_no_stored_field_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        view([(head(event_object(1)), b"1")])


def test_a_view_does_not_print_what_it_holds() -> None:
    seen = view(
        [(head(), b'"ada@example.com"'), (head(EMAIL), write_sightings([Sighting("ada@example.com", 1, 1, 1)]))]
    )
    assert "ada" not in repr(seen)
    assert "ada" not in repr(seen.identifiers)
