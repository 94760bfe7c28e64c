"""Any message, any profiles: claims about resolution (threats B1, B3, B6, B8)."""

from collections import Counter
from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from vault.identity.graph import MAX_MERGES, Attach, Found, Merge, New, Nobody, Profile, Resolution, decide

LIMITS = {1: 1, 2: 2, 3: 2, 4: 3}
ROOTS = [UUID(int=number) for number in range(1, 6)]

Case = tuple[list[Found], dict[UUID, Profile]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Some profiles within their limits, and a message that names some of their identifiers and some new ones."""
    profiles = {}
    for root in draw(st.lists(st.sampled_from(ROOTS), unique=True)):
        counts = {kind: draw(st.integers(0, limit)) for kind, limit in LIMITS.items()}
        profiles[root] = Profile(
            root=root,
            counts=counts,
            identified=counts[1] > 0,
            restricted=draw(st.integers(0, 5)) == 0,
            fenced=draw(st.integers(0, 5)) == 0,
            merges=draw(st.sampled_from((0, 1, MAX_MERGES))),
        )
    some = []
    for number in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(sorted(LIMITS)))
        holders = [root for root, one in profiles.items() if one.counts[kind]]
        root = draw(st.sampled_from(holders)) if holders and draw(st.booleans()) else None
        own = kind == 4 and draw(st.booleans()) and not any(one.own for one in some)
        some.append(Found(kind=kind, priority=kind, tag=bytes([number]) * 16, root=root, own=own))
    return some, profiles


def touched(answer: Resolution) -> set[UUID]:
    match answer:
        case Attach(root=root):
            return {root}
        case Merge(survivor=survivor, absorbed=absorbed):
            return {survivor, *(one.root for one in absorbed)}
        case _:
            return set()


@given(cases(), st.booleans(), st.randoms())
def test_b8_the_order_of_what_was_found_does_not_matter(case: Case, server: bool, random: Random) -> None:
    some, profiles = case
    shuffled, mixed = list(some), list(profiles.items())
    random.shuffle(shuffled)
    random.shuffle(mixed)
    assert decide(some, profiles, LIMITS, server=server) == decide(shuffled, dict(mixed), LIMITS, server=server)


@given(cases())
def test_no_answer_puts_a_profile_over_a_limit(case: Case) -> None:
    some, profiles = case
    answer = decide(some, profiles, LIMITS, server=True)
    if isinstance(answer, Nobody):
        return
    counts = Counter(one.kind for one in answer.attach)
    for root in touched(answer):
        counts.update(profiles[root].counts)
    assert all(counts[kind] <= LIMITS[kind] for kind in counts)


@given(cases())
def test_b6_nobody_protected_takes_part_in_a_merge_and_nobody_in_erasure_is_touched(case: Case) -> None:
    some, profiles = case
    answer = decide(some, profiles, LIMITS, server=True)
    if isinstance(answer, Merge):
        assert not any(profiles[root].protected for root in touched(answer))
        assert sum(profiles[root].merges for root in touched(answer)) + len(answer.absorbed) <= MAX_MERGES
    assert not any(profiles[root].fenced for root in touched(answer))


@given(cases())
def test_every_identifier_is_used_or_dropped_and_none_of_a_stranger_s_is_taken(case: Case) -> None:
    some, profiles = case
    answer = decide(some, profiles, LIMITS, server=True)
    if isinstance(answer, Nobody):
        return
    assert all(one.root is None for one in answer.attach)
    used = [one for one in some if one.root in touched(answer) and one.root is not None]
    left = [one for one in some if one not in answer.attach and one not in answer.dropped]
    assert all(one in used for one in left)
    assert {one.tag for one in (*answer.attach, *answer.dropped, *used)} == {one.tag for one in some}
    assert not set(answer.attach) & set(answer.dropped)


@given(cases())
def test_what_is_dropped_for_a_conflict_is_never_stronger_than_what_found_the_profile(case: Case) -> None:
    some, profiles = case
    answer = decide(some, profiles, LIMITS, server=True)
    if isinstance(answer, Attach | Merge):
        strongest = min((one.priority, one.tag) for one in some if one.root in touched(answer))
        others = [(one.priority, one.tag) for one in answer.dropped if one.root is not None]
        assert all(strongest < other or other[0] >= strongest[0] for other in others)


@given(cases())
def test_b1_a_client_source_touches_only_the_profile_of_its_own_device(case: Case) -> None:
    some, profiles = case
    answer = decide(some, profiles, LIMITS, server=False)
    own = next((one for one in some if one.own), None)
    assert not isinstance(answer, Merge)
    if own is None:
        assert isinstance(answer, Nobody)
    elif isinstance(answer, Attach):
        assert (answer.root, answer.attach) == (own.root, ())
        assert answer.claim != own.root
    elif isinstance(answer, New):
        assert own.root is None
        assert answer.attach == (own,)
