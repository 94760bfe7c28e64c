"""Claims about pseudonyms: stable at one destination, unlinkable between two."""

import base64
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from vault.crypto.permute import permute
from vault.destinations.pseudonym import person_key, pseudonym, pseudonyms, root_of, value_pseudonym

KEY = bytes(range(32))
ROOT = UUID("019aa3b0-0000-7000-8000-000000000001")


def test_the_pseudonym_of_a_root_at_a_destination_never_changes() -> None:
    assert pseudonym(person_key(KEY, 3), ROOT) == pseudonym(person_key(KEY, 3), ROOT) == "vzmhil35obt6qyqkgtj4ubprtu"
    assert value_pseudonym(KEY, 3, 7, b'"ada"') == "umbipeipknaezy7ezcwus5g4ki"


@given(st.lists(st.integers(1, 2**32 - 1), min_size=2, max_size=5, unique=True), st.uuids())
def test_h4_two_destinations_know_a_person_under_names_that_do_not_meet(places: list[int], root: UUID) -> None:
    names = {pseudonym(person_key(KEY, place), root) for place in places}
    assert len(names) == len(places)
    assert all(root.hex not in name for name in names)


@given(st.lists(st.uuids(), min_size=2, max_size=5, unique=True))
def test_two_people_have_two_names_at_one_destination(roots: list[UUID]) -> None:
    assert len({pseudonym(person_key(KEY, 1), root) for root in roots}) == len(roots)


def test_another_key_another_destination_another_object_give_other_stand_ins() -> None:
    value = b'"ada@example.com"'
    made = {
        value_pseudonym(KEY, 1, 7, value),
        value_pseudonym(KEY, 2, 7, value),
        value_pseudonym(KEY, 1, 8, value),
        value_pseudonym(KEY[::-1], 1, 7, value),
        value_pseudonym(KEY, 1, 7, value + b" "),
    }
    assert len(made) == 5


def test_a_pseudonym_is_twenty_six_plain_letters_and_digits() -> None:
    name = pseudonym(person_key(KEY, 1), ROOT)
    assert len(name) == 26
    assert name.isalnum()
    assert name == name.lower()


@given(st.uuids())
def test_the_vault_and_nobody_else_reads_a_name_back(root: UUID) -> None:
    name = pseudonym(person_key(KEY, 1), root)
    assert root_of(person_key(KEY, 1), name) == root
    assert root_of(person_key(KEY, 2), name) != root
    assert root_of(person_key(KEY[::-1], 1), name) != root


@given(st.text(max_size=40))
def test_what_is_no_name_is_nobody(text: str) -> None:
    found = root_of(person_key(KEY, 1), text)
    assert found is None or pseudonym(person_key(KEY, 1), found) == text


@given(st.lists(st.uuids(), max_size=5))
def test_many_at_once_have_the_names_that_each_has_alone(roots: list[UUID]) -> None:
    key = person_key(KEY, 1)
    assert pseudonyms(key, roots) == [pseudonym(key, root) for root in roots]


@given(st.uuids())
def test_a_name_is_the_base_32_of_the_permuted_root(root: UUID) -> None:
    key = person_key(KEY, 1)
    text = base64.b32encode(permute(key, root.bytes)).decode().rstrip("=").lower()
    assert pseudonym(key, root) == text
