"""Compartments made and opened: by the right purpose, for the right person, in the right place, and no other way."""

import copy
import pickle
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID, uuid5

import pytest

from vault.catalogue.numbers import RIGHTS
from vault.errors import Unavailable, Unreadable
from vault.keys.compartments import (
    Compartment,
    Opener,
    Wrapped,
    create,
    open_compartment,
    pack_wraps,
    parse_wraps,
    without,
)
from vault.keys.kept import Asked, open_each, scan_wraps
from vault.keys.keyring import Keyring

ADA = uuid5(UUID(int=1), "ada")
BOB = uuid5(UUID(int=1), "bob")
MASK = 0b100111  # purposes 0, 1, 2, 5


def same_key(one: Compartment, other: Compartment) -> bool:
    return one.aead.decrypt(other.aead.encrypt(b"value", b"here"), b"here") == b"value"


def test_every_purpose_and_rights_open_the_same_compartment(keyring: Keyring) -> None:
    wrapped, made = create(keyring, ADA, MASK, 1)
    assert wrapped.held == MASK
    assert wrapped.whole
    (stored,) = parse_wraps(pack_wraps([wrapped]))
    for purpose in (0, 1, 2, 5, RIGHTS):
        opened = open_compartment(keyring, ADA, stored, purpose)
        assert same_key(made, opened)
        assert (opened.subject, opened.purposes, opened.generation) == (ADA, MASK, 1)
        assert (opened.compartment_id, opened.commitment) == (made.compartment_id, made.commitment)


def test_a_compartment_opens_from_its_row_as_it_does_cut_out(keyring: Keyring) -> None:
    made = [create(keyring, ADA, mask, 1) for mask in (MASK, 0b10)]
    kept, _ = scan_wraps(pack_wraps([wrapped for wrapped, _ in made]))
    asked = [
        (Asked(subject, kept[wrapped.purposes, 1], purpose), opened)
        for subject in (ADA, BOB)
        for wrapped, opened in made
        for purpose in (0, 1, 2, 5, RIGHTS)
    ]
    seen = set()
    for (one, opened), found in zip(asked, open_each(keyring, [one for one, _ in asked]), strict=True):
        opens = one.subject == ADA and (one.purpose == RIGHTS or one.kept.purposes >> one.purpose & 1 == 1)
        assert (found is not None and same_key(opened, found)) == opens
        seen.add(opens)
    assert seen == {True, False}  # those that do not open keep no other from opening


def test_a_compartment_without_purposes_opens_for_rights_alone(keyring: Keyring) -> None:
    wrapped, made = create(keyring, ADA, 0, 1)
    assert [w.purpose for w in wrapped.wraps] == [RIGHTS]
    assert same_key(made, open_compartment(keyring, ADA, wrapped, RIGHTS))
    for purpose in (0, 1):
        with pytest.raises(Unreadable):
            open_compartment(keyring, ADA, wrapped, purpose)


def test_no_two_compartments_share_an_id_or_a_key(keyring: Keyring) -> None:
    opener = Opener(keyring, ADA)
    made = [opener.create(MASK, generation) for generation in range(1, 30)]
    assert len({wrapped.compartment_id for wrapped, _ in made}) == len(made)
    assert len({wrapped.commitment for wrapped, _ in made}) == len(made)
    with pytest.raises(Unreadable):
        same_key(made[0][1], made[1][1])


def test_a_removed_wrap_opens_no_more_and_the_others_still_do(keyring: Keyring) -> None:
    wrapped, made = create(keyring, ADA, MASK, 1)
    (left,), removed = without([wrapped], 0b000010)
    assert removed == ((wrapped.compartment_id, 1),)
    with pytest.raises(Unreadable):
        open_compartment(keyring, ADA, left, 1)
    assert same_key(made, open_compartment(keyring, ADA, left, 2))


def test_a13_a_wrap_of_one_person_opens_nothing_for_another(keyring: Keyring) -> None:
    wrapped, _ = create(keyring, ADA, MASK, 1)
    for purpose in (0, RIGHTS):
        with pytest.raises(Unreadable):
            open_compartment(keyring, BOB, wrapped, purpose)


@pytest.mark.parametrize(
    "change",
    [
        {"purposes": MASK | 0b1000},
        {"purposes": 0b1},
        {"generation": 2},
        {"compartment_id": bytes(16)},
        {"commitment": bytes(32)},
    ],
    ids=[
        "a4 purpose added",
        "a4 purposes taken",
        "a20 generation raised",
        "a2 other compartment",
        "a11 other commitment",
    ],
)
def test_a_compartment_moved_to_another_place_opens_for_nobody(keyring: Keyring, change: dict[str, Any]) -> None:
    wrapped, _ = create(keyring, ADA, MASK, 1)
    moved: Wrapped = wrapped._replace(**change)
    for purpose in (0, RIGHTS):
        with pytest.raises(Unreadable):
            open_compartment(keyring, ADA, moved, purpose)


def test_a14_an_unknown_epoch_is_refused_and_no_other_key_is_tried(keyring: Keyring) -> None:
    wrapped, _ = create(keyring, ADA, MASK, 1)
    for epoch in (0, 2, 65535):
        relabelled = wrapped._replace(wraps=tuple(w._replace(epoch=epoch) for w in wrapped.wraps))
        with pytest.raises(Unavailable):
            open_compartment(keyring, ADA, relabelled, 0)


def test_a14_a_wrap_relabelled_for_another_purpose_or_epoch_opens_for_neither(keyring: Keyring) -> None:
    keyring.make("purpose-0")
    wrapped, _ = create(keyring, ADA, MASK, 1)
    first, second, *rest = wrapped.wraps
    assert first.epoch == 2
    older = wrapped._replace(wraps=(first._replace(epoch=1), second, *rest))
    swapped = wrapped._replace(wraps=(second._replace(purpose=0), first._replace(purpose=1), *rest))
    for changed, purpose, told in ((older, 0, Unreadable), (swapped, 0, Unreadable), (swapped, 1, Unavailable)):
        with pytest.raises(told):
            open_compartment(keyring, ADA, changed, purpose)


def test_a21_a_wrap_of_another_data_key_in_the_same_compartment_is_refused(keyring: Keyring) -> None:
    wrapped, _ = create(keyring, ADA, MASK, 1)
    other, _ = create(keyring, ADA, MASK, 1)
    mixed = wrapped._replace(wraps=(other.wraps[0], *wrapped.wraps[1:]))
    with pytest.raises(Unreadable):
        open_compartment(keyring, ADA, mixed, 0)
    open_compartment(keyring, ADA, mixed, 1)


def test_a22_a_wrap_of_generation_one_on_generation_two_is_refused(keyring: Keyring) -> None:
    first, _ = create(keyring, ADA, MASK, 1)
    second, _ = create(keyring, ADA, MASK, 2)
    for mixed in (second._replace(wraps=first.wraps), first._replace(generation=2)):
        with pytest.raises(Unreadable):
            open_compartment(keyring, ADA, mixed, 0)


def test_compartments_of_an_older_epoch_still_open_after_a_new_one_begins(keyring: Keyring) -> None:
    old, made = create(keyring, ADA, MASK, 1)
    assert keyring.make("purpose-0") == 2
    new, _ = create(keyring, ADA, MASK, 2)
    assert (old.wraps[0].epoch, new.wraps[0].epoch) == (1, 2)
    assert same_key(made, open_compartment(keyring, ADA, old, 0))
    keyring.destroy("purpose-0", 1)
    with pytest.raises(Unavailable):
        open_compartment(keyring, ADA, old, 0)
    open_compartment(keyring, ADA, new, 0)


def test_a_process_with_one_purposes_key_opens_for_that_purpose_only(
    keyring: Keyring, opened: Callable[[Iterable[str]], Keyring]
) -> None:
    wrapped, made = create(keyring, ADA, MASK, 1)
    release = opened(["purpose-1"])
    assert same_key(made, open_compartment(release, ADA, wrapped, 1))
    for purpose in (0, 2, RIGHTS):
        with pytest.raises(Unavailable):
            open_compartment(release, ADA, wrapped, purpose)
    with pytest.raises(Unavailable):
        create(release, ADA, MASK, 2)


@pytest.mark.parametrize(("purposes", "generation"), [(-1, 1), (1 << 63, 1), (1, -1), (1, 2**15)])
def test_nonsense_cannot_be_made(keyring: Keyring, purposes: int, generation: int) -> None:
    with pytest.raises(ValueError, match="not a set of purposes"):
        create(keyring, ADA, purposes, generation)


def test_opened_things_show_nothing_and_do_not_travel(keyring: Keyring) -> None:
    _, made = create(keyring, ADA, MASK, 1)
    opener = Opener(keyring, ADA)
    assert repr(made) == "Compartment(purposes=0x27, generation=1)"
    assert repr(opener) == "Opener(...)"
    for thing in (made, opener, keyring):
        with pytest.raises(TypeError, match="not leave"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="not leave"):
            copy.deepcopy(thing)
