"""Who is meant."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from vault.clock import Micros
from vault.identity.graph import (
    MAX_IDENTIFIERS,
    MAX_MERGES,
    Absorbed,
    Attach,
    Found,
    Merge,
    New,
    Nobody,
    Profile,
    Resolution,
    Rule,
    decide,
    survivor_of,
)
from vault.ids import uuid7

USER, EMAIL, PHONE, ANONYMOUS = 1, 2, 3, 4  # priority and number alike
LIMITS = {USER: 1, EMAIL: 5, PHONE: 5, ANONYMOUS: 5}
A, B, C = (uuid7(Micros(1_790_000_000_000_000 + 1_000_000 * age)) for age in range(3))  # oldest first


def found(kind: int, root: UUID | None = None, *, value: str = "x", own: bool = False) -> Found:
    tag = f"{kind}{value}{root or ''}".encode()[:16].ljust(16, b".")
    return Found(kind=kind, priority=kind, tag=tag, root=root, own=own)


def profile(root: UUID, counts: dict[int, int] | None = None, **more: Any) -> Profile:
    counts = counts or {}
    return Profile(root=root, counts=counts, identified=bool(counts.get(USER)), **more)


def resolve(some: Iterable[Found], *profiles: Profile, server: bool = True) -> Resolution:
    return decide(some, {one.root: one for one in profiles}, LIMITS, server=server)


# --- server sources ----------------------------------------------------------------------------------------------------


def test_nobody_found_makes_a_new_subject_with_all_identifiers() -> None:
    user, email = found(USER), found(EMAIL)
    assert resolve([email, user]) == New((user, email))


def test_one_profile_found_takes_the_message_and_what_is_new() -> None:
    email = found(EMAIL)
    assert resolve([found(USER, A), email], profile(A, {USER: 1})) == Attach(A, (email,))


def test_several_profiles_merge_and_the_evidence_is_named() -> None:
    answer = resolve([found(USER, B), found(ANONYMOUS, A)], profile(A, {ANONYMOUS: 1}), profile(B, {USER: 1}))
    assert answer == Merge(B, (Absorbed(A, ANONYMOUS),), ())


def test_the_survivor_is_the_oldest_with_a_user_id_else_the_oldest() -> None:
    assert survivor_of([profile(A), profile(C, {USER: 1}), profile(B, {USER: 1})]) == B
    assert survivor_of([profile(C), profile(B)]) == B


def test_evidence_is_the_strongest_identifier_of_each() -> None:
    some = [found(PHONE, B), found(EMAIL, B), found(ANONYMOUS, C), found(USER, A)]
    answer = resolve(some, profile(A, {USER: 1}), profile(B, {EMAIL: 1, PHONE: 1}), profile(C, {ANONYMOUS: 1}))
    assert answer == Merge(A, (Absorbed(B, EMAIL), Absorbed(C, ANONYMOUS)), ())


def test_a_shared_device_does_not_join_two_users() -> None:
    device = found(ANONYMOUS, A)
    answer = resolve([found(USER), device], profile(A, {USER: 1, ANONYMOUS: 1}))
    assert answer == New((found(USER),), (device,))


def test_two_known_users_never_merge_the_weaker_identifier_is_dropped() -> None:
    email = found(EMAIL, B)
    answer = resolve([found(USER, A), email], profile(A, {USER: 1}), profile(B, {USER: 1, EMAIL: 1}))
    assert answer == Attach(A, (), (email,))


def test_the_weakest_goes_first_and_the_rest_is_tried_again() -> None:
    phone, device = found(PHONE, B), found(ANONYMOUS, C)
    answer = resolve(
        [found(USER, A), phone, device], profile(A, {USER: 1}), profile(B, {USER: 1}), profile(C, {ANONYMOUS: 5})
    )
    assert answer == Attach(A, (), (device, phone))


def test_a_kind_at_its_limit_takes_no_more() -> None:
    email = found(EMAIL)
    answer = resolve([found(USER, A), email], profile(A, {USER: 1, EMAIL: 5}))
    assert answer == Attach(A, (), (email,))


def test_a_merge_may_not_exceed_a_limit_of_a_kind_that_the_message_does_not_name() -> None:
    device = found(ANONYMOUS, B)
    answer = resolve([found(USER, A), device], profile(A, {USER: 1, EMAIL: 3}), profile(B, {EMAIL: 3}))
    assert answer == Attach(A, (), (device,))


def test_a_limit_that_was_lowered_stops_growth_and_nothing_else() -> None:
    assert resolve([found(USER, A)], profile(A, {USER: 1, EMAIL: 9})) == Attach(A, ())
    answer = resolve([found(USER, A), found(ANONYMOUS, B)], profile(A, {USER: 1, EMAIL: 9}), profile(B))
    assert isinstance(answer, Merge)


def test_a_new_subject_keeps_to_the_limits_as_well() -> None:
    one, other = found(USER, value="a"), found(USER, value="b")
    assert resolve([other, one]) == New((one,), (other,))


@pytest.mark.parametrize("state", ["restricted", "fenced"])
@pytest.mark.parametrize("which", [0, 1])
def test_b6_who_is_restricted_or_being_erased_does_not_merge(state: str, which: int) -> None:
    profiles = [profile(A, {USER: 1}), profile(B, {ANONYMOUS: 1})]
    profiles[which] = msgspec.structs.replace(profiles[which], **{state: True})
    device = found(ANONYMOUS, B)
    answer = resolve([found(USER, A), device], *profiles)
    expected = Nobody("erasing") if state == "fenced" and which == 0 else Attach(A, (), (device,))
    assert answer == expected


def test_who_is_being_erased_takes_no_message_and_who_is_restricted_does() -> None:
    assert resolve([found(USER, A)], profile(A, fenced=True)) == Nobody("erasing")
    assert resolve([found(USER, A)], profile(A, restricted=True)) == Attach(A, ())


def test_b3_a_merge_storm_ends_at_the_cap() -> None:
    device = found(ANONYMOUS, B)
    full = profile(A, {USER: 1}, merges=MAX_MERGES)
    assert resolve([found(USER, A), device], full, profile(B)) == Attach(A, (), (device,))
    last = profile(A, {USER: 1}, merges=MAX_MERGES - 1)
    assert isinstance(resolve([found(USER, A), device], last, profile(B)), Merge)
    below = resolve([found(USER, A), device], profile(A, merges=MAX_MERGES - 1), profile(B, merges=1))
    assert isinstance(below, Attach)


def test_b3_a_full_profile_still_resolves_and_takes_no_more_identifiers() -> None:
    full = profile(A, {USER: 1, 9: MAX_IDENTIFIERS - 2})
    email, phone = found(EMAIL), found(PHONE)
    answer = decide([found(USER, A), email, phone], {A: full}, {**LIMITS, 9: 10_000}, server=True)
    assert answer == Attach(A, (email,), (phone,))


def test_b2_an_alias_to_itself_or_in_a_circle_joins_nothing_twice() -> None:
    assert resolve([found(USER, A), found(ANONYMOUS, A)], profile(A)) == Attach(A, ())


def test_a_message_without_a_usable_identifier_is_nobody_s() -> None:
    assert resolve([]) == Nobody("no_usable_identifier")


# --- client sources ----------------------------------------------------------------------------------------------------


def test_b1_a_client_source_joins_nothing_it_only_claims() -> None:
    device = found(ANONYMOUS, B, own=True)
    victim = profile(A, {USER: 1})
    assert resolve([found(USER, A), device], victim, profile(B), server=False) == Attach(B, (), (), claim=A)
    new = found(ANONYMOUS, own=True)
    assert resolve([found(USER, A), new], victim, server=False) == New((new,), (), claim=A)


def test_b1_a_client_source_registers_no_identifier_but_that_of_its_device() -> None:
    new = found(ANONYMOUS, own=True)
    assert resolve([found(USER), found(EMAIL), new], server=False) == New((new,))
    device = found(ANONYMOUS, A, own=True)
    assert resolve([found(USER), device], profile(A), server=False) == Attach(A, ())


def test_b1_a_client_source_without_a_device_of_its_own_is_nobody() -> None:
    assert resolve([found(USER, A)], profile(A), server=False) == Nobody("no_usable_identifier")
    other = found(ANONYMOUS, A)  # an alias: somebody's previous id
    assert resolve([found(USER), other], profile(A), server=False) == Nobody("no_usable_identifier")


def test_a_device_that_a_server_source_confirmed_claims_nothing() -> None:
    device = found(ANONYMOUS, A, own=True)
    assert resolve([found(USER, A), device], profile(A, {USER: 1}), server=False) == Attach(A, ())


def test_the_strongest_identifier_is_the_claim() -> None:
    some = [found(EMAIL, B), found(USER, A), found(ANONYMOUS, own=True)]
    answer = resolve(some, profile(A), profile(B), server=False)
    assert isinstance(answer, New)
    assert answer.claim == A


def test_a_client_source_cannot_tell_an_erasure_from_nobody() -> None:
    new = found(ANONYMOUS, own=True)
    assert resolve([found(USER, A), new], profile(A, fenced=True), server=False) == New((new,))
    own = found(ANONYMOUS, A, own=True)
    assert resolve([own], profile(A, fenced=True), server=False) == Nobody("erasing")


def test_rules_are_stored_numbers() -> None:
    assert {rule.name: rule.value for rule in Rule} == {"MERGED": 1, "CLAIMED": 2, "CONFIRMED": 3, "ALIASED": 4}
