"""The Merkle tree against RFC 9162 itself: its recursive definitions written out plainly, and the known eight-leaf log."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault import merkle
from vault.errors import Unreadable

# The log of eight entries that the Certificate Transparency implementations test with, and its roots by size.
ENTRIES = [
    bytes.fromhex(entry)
    for entry in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
SIZES = st.integers(min_value=1, max_value=70)


def leaves(count: int) -> list[bytes]:
    return [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


def plain_root(hashes: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, word for word."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\x01" + plain_root(hashes[:k]) + plain_root(hashes[k:])).digest()


def plain_path(m: int, hashes: list[bytes]) -> list[bytes]:
    """RFC 9162 section 2.1.3.1, word for word."""
    if len(hashes) == 1:
        return []
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    if m < k:
        return [*plain_path(m, hashes[:k]), plain_root(hashes[k:])]
    return [*plain_path(m - k, hashes[k:]), plain_root(hashes[:k])]


def plain_subproof(m: int, hashes: list[bytes], whole: bool) -> list[bytes]:
    """RFC 9162 section 2.1.4.1, word for word."""
    if m == len(hashes):
        return [] if whole else [plain_root(hashes)]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    if m <= k:
        return [*plain_subproof(m, hashes[:k], whole), plain_root(hashes[k:])]
    return [*plain_subproof(m - k, hashes[k:], False), plain_root(hashes[:k])]


class Stored:
    """Nodes as a table would hold them: each written once, and never one that was not."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.size = 0

    def grow(self, hashes: list[bytes]) -> None:
        allowed = set(merkle.frontier(self.size))

        def get(level: int, position: int) -> bytes:
            assert (level, position) in allowed
            return self.nodes[level, position]

        for node in merkle.grow(self.size, hashes, get):
            assert (node.level, node.position) not in self.nodes
            self.nodes[node.level, node.position] = node.hash
        self.size += len(hashes)

    def get(self, level: int, position: int) -> bytes:
        return self.nodes[level, position]


def stored(count: int) -> Stored:
    log = Stored()
    log.grow(leaves(count))
    return log


def test_the_empty_log_has_the_root_of_nothing() -> None:
    assert merkle.root_of([]) == merkle.root(0, stored(0).get) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("size", ROOTS)
def test_the_known_log_has_its_known_roots(size: int) -> None:
    hashes = [merkle.leaf_hash(entry) for entry in ENTRIES[:size]]
    assert merkle.root_of(hashes).hex() == ROOTS[size]


def test_a_leaf_is_never_a_node() -> None:
    left, right = leaves(2)
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


@given(SIZES)
def test_roots_are_those_of_the_recursive_definition(size: int) -> None:
    expected = plain_root(leaves(size))
    assert merkle.root_of(leaves(size)) == expected
    assert merkle.root(size, stored(size).get) == expected


@given(st.lists(st.integers(min_value=0, max_value=20), max_size=8))
def test_a_log_grown_in_any_steps_is_the_same_log(steps: list[int]) -> None:
    log = Stored()
    for step in steps:
        log.grow(leaves(log.size + step)[log.size :])
    assert log.nodes == stored(sum(steps)).nodes


@given(SIZES, st.data())
def test_inclusion_proofs_are_those_of_the_definition_and_verify(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    asked = merkle.inclusion_nodes(index, size)
    log = stored(size)
    fetched = {place: log.nodes[place] for place in asked}
    proof = merkle.inclusion_proof(index, size, lambda level, position: fetched[level, position])
    assert proof == plain_path(index, leaves(size))
    merkle.verify_inclusion(leaves(size)[index], index, size, proof, plain_root(leaves(size)))


@given(SIZES, st.data())
def test_consistency_proofs_are_those_of_the_definition_and_verify(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(min_value=1, max_value=size))
    log = stored(size)
    fetched = {place: log.nodes[place] for place in merkle.consistency_nodes(first, size)}
    proof = merkle.consistency_proof(first, size, lambda level, position: fetched[level, position])
    assert proof == plain_subproof(first, leaves(size), True)
    merkle.verify_consistency(first, size, proof, plain_root(leaves(first)), plain_root(leaves(size)))


@given(SIZES, st.data())
def test_a_changed_inclusion_proof_does_not_verify(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    proof = plain_path(index, leaves(size))
    leaf, root = leaves(size)[index], plain_root(leaves(size))
    wrong: list[tuple[bytes, int, list[bytes]]] = [
        (root, index, proof) if size > 1 else (b"\x00" * 32, index, proof),
        (leaf, index, [*proof, root]),
        (leaf, index, [leaf, *proof]),
        (leaf, index + size, proof),
        (leaf, -1, proof),
        (leaf[:-1], index, proof),
    ]
    if proof:
        at = data.draw(st.integers(min_value=0, max_value=len(proof) - 1))
        flipped = bytes((proof[at][0] ^ 1,)) + proof[at][1:]
        wrong += [
            (leaf, index, proof[:-1]),
            (leaf, index, [*proof[:at], flipped, *proof[at + 1 :]]),
            (leaf, index, [*proof[:at], b"", *proof[at + 1 :]]),
            (leaf, index ^ 1, proof),
        ]
    for false_leaf, false_index, false_proof in wrong:
        with pytest.raises(Unreadable):
            merkle.verify_inclusion(false_leaf, false_index, size, false_proof, root)


@given(SIZES, st.data())
def test_f4_another_log_is_not_consistent(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(min_value=1, max_value=size))
    proof = plain_subproof(first, leaves(size), True)
    old, new = plain_root(leaves(first)), plain_root(leaves(size))
    other = hashlib.sha256(old).digest()
    wrong = [(other, new, proof), (old, other, proof), (old, new, [*proof, other]), (old[:-1], new, proof)]
    if proof:
        wrong += [(old, new, proof[:-1]), (old, new, [other, *proof[1:]]), (old, new, []), (new, old, proof)]
    for false_old, false_new, false_proof in wrong:
        with pytest.raises(Unreadable):
            merkle.verify_consistency(first, size, false_proof, false_old, false_new)


def test_every_log_extends_the_empty_one_and_none_shrinks() -> None:
    root = plain_root(leaves(3))
    merkle.verify_consistency(0, 3, [], merkle.EMPTY_ROOT, root)
    merkle.verify_consistency(3, 3, [], root, root)
    assert merkle.consistency_proof(0, 3, stored(3).get) == merkle.consistency_proof(3, 3, stored(3).get) == []
    for first, second, proof, old in [(0, 3, [], root), (0, 3, [root], merkle.EMPTY_ROOT), (4, 3, [], root)]:
        with pytest.raises(Unreadable):
            merkle.verify_consistency(first, second, proof, old, root)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_a_proof_of_no_leaf_cannot_be_asked_for(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no such leaf"):
        merkle.inclusion_proof(index, size, stored(3).get)


def test_a_shrinking_log_has_no_proof_and_no_frontier() -> None:
    with pytest.raises(ValueError, match="only grows"):
        merkle.consistency_proof(4, 3, stored(4).get)
    with pytest.raises(ValueError, match="negative"):
        merkle.frontier(-1)
