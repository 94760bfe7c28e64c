"""Claims about what is said of accounts: of each trait the newest, in whatever order and from however many members."""

from functools import reduce

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.errors import Unreadable
from vault.profile.accounts import Entry, Told, both, joined, only, read_accounts, write_accounts

values = st.sampled_from([b'"gold"', b'"free"', b"1.10", b"null", b'{"a": 1}'])
told = st.builds(
    lambda authority, at, key, source, value: Told(authority, at, f"{key:032x}", source, msgspec.Raw(value)),
    st.integers(0, 1), st.integers(0, 3), st.integers(0, 2**32), st.integers(1, 3), values,
)  # fmt: skip
entries = st.builds(
    Entry,
    st.booleans(),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(1, 3),
    st.dictionaries(st.integers(1, 3), told),
)


@given(st.dictionaries(st.integers(0, 2**128 - 1).map(lambda n: f"{n:032x}"), entries, max_size=4))
def test_what_is_written_is_read_again_and_has_one_form(some: dict[str, Entry]) -> None:
    written = write_accounts(some)
    assert read_accounts(written).keys() == some.keys()
    assert write_accounts(read_accounts(written)) == written
    assert write_accounts(dict(reversed(some.items()))) == written


def ranks(entry: Entry) -> dict[int, tuple[int, int, str]]:
    return {number: one.rank for number, one in entry.traits.items()}


@given(st.lists(entries, min_size=1, max_size=5), st.randoms())
def test_of_each_trait_the_newest_counts_whatever_the_order(some: list[Entry], random: object) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = reduce(both, some), reduce(both, shuffled)
    assert ranks(one) == ranks(other)
    assert (one.confirmed, one.first_said_at, one.last_said_at) == (
        other.confirmed,
        other.first_said_at,
        other.last_said_at,
    )
    for number, rank in ranks(one).items():
        assert rank == max(entry.traits[number].rank for entry in some if number in entry.traits)


def test_a_deletion_hides_what_is_older_and_only_that() -> None:
    gold = Entry(True, 1, 1, 1, {1: Told(1, 1, "00", 1, msgspec.Raw(b'"gold"'))})
    gone = Entry(True, 2, 2, 1, {1: Told(1, 2, "01", 1, msgspec.Raw(b"null"))})
    free = Entry(True, 3, 3, 1, {1: Told(1, 3, "02", 1, msgspec.Raw(b'"free"'))})
    assert joined([gold, gone]).traits == {}
    assert bytes(joined([gold, gone, free]).traits[1].value) == b'"free"'


def test_a_permit_leaves_only_the_traits_that_it_names() -> None:
    entry = Entry(True, 1, 1, 1, {n: Told(1, 1, "00", 1, msgspec.Raw(b"1")) for n in (1, 2, 3)})
    assert set(only({"aa": entry}, frozenset({2}))["aa"].traits) == {2}
    assert only({"aa": entry}, frozenset())["aa"].confirmed


@pytest.mark.parametrize(
    "plaintext", [b"", b"[]", b"null", b'{"a": 1}', b'{"a": [true, 1]}', b'{"a": [true, 1, 1, 1, {"x": []}]}', b"\xff"]
)
def test_what_was_not_written_so_is_not_read(plaintext: bytes) -> None:
    with pytest.raises(Unreadable):
        read_accounts(plaintext)


def test_nothing_shows_itself() -> None:
    secret = Told(1, 1, "00", 1, msgspec.Raw(b'"canary"'))
    assert "canary" not in repr(secret)
    assert "canary" not in repr(Entry(True, 1, 1, 1, {1: secret}))
