"""The Merkle tree of RFC 9162 section 2.1, as pure functions over SHA-256.

Holds no log and knows no storage: a caller gives leaf hashes, or a getter `(level, position) -> hash` over the nodes that
it stored. Level 0 is a leaf hash; node (level, position) covers the leaves from position * 2**level on, 2**level of them.
Only complete subtrees are ever stored, so a stored node never changes. `*_nodes` name what a getter will be asked for, so
that a caller can fetch it first.

Nothing here is secret, so comparisons are plain.

Raises `Unreadable` where a proof does not hold; ValueError where a caller asks for what cannot exist.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from vault.errors import Unreadable

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()  # RFC 9162 section 2.1.1: the root of a log without entries
_NOTHING: Final = bytes(HASH_BYTES)

Getter = Callable[[int, int], bytes]
"""Answers the stored hash of the complete subtree (level, position)."""

Place = tuple[int, int]
"""(level, position) of a complete subtree."""


class Node(NamedTuple):
    """A complete subtree, ready to be stored."""

    level: int
    position: int
    hash: bytes


def leaf_hash(data: bytes) -> bytes:
    """The hash of one entry: SHA-256(0x00 | data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256(0x01 | left | right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes in order, from nothing else."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:
        # An odd last node rises unchanged: the same tree as splitting at the largest power of two (RFC 9162 section 2.1.2).
        odd = level[-1:] if len(level) % 2 else []
        level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)] + odd
    return level[0]


# --- growing --------------------------------------------------------------------------------------------------------


def frontier(size: int) -> list[Place]:
    """The complete subtrees that together cover a log of `size` leaves, from the left: all that growing it needs."""
    if size < 0:
        raise ValueError("a log has no negative size")
    places, begin = [], 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            places.append((level, begin >> level))
            begin += 1 << level
    return places


def grow(size: int, leaf_hashes: Iterable[bytes], get: Getter) -> list[Node]:
    """Every node to store when `leaf_hashes` follow a log of `size` leaves. `get` is asked for `frontier(size)` only."""
    stack = [Node(level, position, get(level, position)) for level, position in frontier(size)]
    made: list[Node] = []
    for index, leaf in enumerate(leaf_hashes, start=size):
        node = Node(0, index, leaf)
        made.append(node)
        while node.position % 2:  # a right child: its left sibling is complete and on top of the stack
            left = stack.pop()
            node = Node(node.level + 1, node.position >> 1, node_hash(left.hash, node.hash))
            made.append(node)
        stack.append(node)
    return made


def root(size: int, get: Getter) -> bytes:
    """The root of a log of `size` leaves. `get` is asked for `frontier(size)` only."""
    return _range_hash(0, size, get) if size else EMPTY_ROOT


# --- proofs ---------------------------------------------------------------------------------------------------------


def inclusion_proof(index: int, size: int, get: Getter) -> list[bytes]:
    """The audit path of leaf `index` in a log of `size` leaves (RFC 9162 section 2.1.3.1), nearest sibling first."""
    if not 0 <= index < size:
        raise ValueError("there is no such leaf in a log of this size")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_range_hash(middle, end, get))
            end = middle
        else:
            path.append(_range_hash(begin, middle, get))
            begin = middle
    return path[::-1]


def inclusion_nodes(index: int, size: int) -> list[Place]:
    """What `inclusion_proof` will ask its getter for."""
    asked: list[Place] = []
    inclusion_proof(index, size, _recorder(asked))
    return asked


def consistency_proof(first: int, second: int, get: Getter) -> list[bytes]:
    """Proof that the log of `first` leaves is a prefix of that of `second` (RFC 9162 section 2.1.4.1).

    Empty when the sizes are equal or the first is 0.
    """
    if not 0 <= first <= second:
        raise ValueError("a log only grows")
    if first in {0, second}:
        return []
    path: list[bytes] = []
    begin, end, whole = 0, second, True  # whole: the old log's own root covers [begin, first), so nobody needs it told
    while first != end:
        middle = begin + _split(end - begin)
        if first <= middle:
            path.append(_range_hash(middle, end, get))
            end = middle
        else:
            path.append(_range_hash(begin, middle, get))
            begin, whole = middle, False
    if not whole:
        path.append(_range_hash(begin, end, get))
    return path[::-1]


def consistency_nodes(first: int, second: int) -> list[Place]:
    """What `consistency_proof` will ask its getter for."""
    asked: list[Place] = []
    consistency_proof(first, second, _recorder(asked))
    return asked


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> None:
    """Raises `Unreadable` unless `proof` puts the leaf hash at `index` under `root_hash` (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or not _hashes(leaf, root_hash, *proof):
        raise Unreadable
    inner, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise Unreadable
        if inner & 1 or inner == last:
            value = node_hash(sibling, value)
            while inner and not inner & 1:  # levels at which this node rose unchanged
                inner >>= 1
                last >>= 1
        else:
            value = node_hash(value, sibling)
        inner >>= 1
        last >>= 1
    if last or value != root_hash:
        raise Unreadable


def verify_consistency(first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes) -> None:
    """Raises `Unreadable` unless `proof` shows that the second log extends the first (RFC 9162 section 2.1.4.2)."""
    if not 0 <= first <= second or not _hashes(first_root, second_root, *proof):
        raise Unreadable
    if first in {0, second}:
        expected = EMPTY_ROOT if first == 0 else second_root
        if proof or first_root != expected:
            raise Unreadable
        return
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        raise Unreadable
    inner, last = first - 1, second - 1
    while inner & 1:
        inner >>= 1
        last >>= 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise Unreadable
        if inner & 1 or inner == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while inner and not inner & 1:
                inner >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        inner >>= 1
        last >>= 1
    if last or old != first_root or new != second_root:
        raise Unreadable


def _split(size: int) -> int:
    """The largest power of two below `size` (RFC 9162 section 2.1.1); `size` is 2 or more."""
    return 1 << (size - 1).bit_length() - 1


def _range_hash(begin: int, end: int, get: Getter) -> bytes:
    """The hash over leaves [begin, end), where begin starts a subtree: stored if complete, else folded from the right."""
    size = end - begin
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return get(level, begin >> level)
    middle = begin + _split(size)
    return node_hash(_range_hash(begin, middle, get), _range_hash(middle, end, get))


def _recorder(asked: list[Place]) -> Getter:
    def get(level: int, position: int) -> bytes:
        asked.append((level, position))
        return _NOTHING

    return get


def _hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
