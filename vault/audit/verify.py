"""Recomputes the whole log from its leaves and names the first index that does not hold (threats F1, F4). Trusts no node."""

from collections.abc import Sequence
from typing import Final

import msgspec

from vault.audit import store
from vault.audit.checkpoint import origin_of, read
from vault.audit.entry import parse
from vault.errors import Unreadable
from vault.journal.head import AuditHead
from vault.merkle import EMPTY_ROOT, Node, frontier, grow, leaf_hash, root
from vault.storage.session import Connection

BATCH: Final = 2000  # leaves in memory at once


class Report(msgspec.Struct, frozen=True):
    """What was found. `first_bad` is the index of the first leaf that cannot be vouched for."""

    size: int
    root: bytes
    checkpoints: int  # signed heads that hold
    first_bad: int | None = None
    problem: str = ""

    @property
    def good(self) -> bool:
        """Whether everything holds."""
        return self.first_bad is None


class _Bad(Exception):
    def __init__(self, index: int, problem: str) -> None:
        self.index = index
        self.problem = problem


async def verify(connection: Connection, publics: Sequence[bytes], head: AuditHead | None = None) -> Report:
    """Checks every leaf, stored node and signed head. Call in a snapshot, so that the log does not grow meanwhile.

    `publics` are the keys that ever signed it; `head` is the one kept outside the database: without it, a log that was
    replaced or cut as a whole, with a stolen key or back to an older checkpoint, is not seen.
    """
    walk = _Walk()
    try:
        await walk.run(connection, publics, head)
    except _Bad as bad:
        return Report(walk.size, walk.root(), walk.checkpoints, bad.index, bad.problem)
    return Report(walk.size, walk.root(), walk.checkpoints)


class _Walk:
    """The log recomputed so far."""

    def __init__(self) -> None:
        self.size = 0
        self.checkpoints = 0
        self.vouched = 0  # size of the last signed head that holds
        self._nodes: dict[tuple[int, int], bytes] = {}

    def root(self) -> bytes:
        return root(self.size, self._get) if self.size else EMPTY_ROOT

    async def run(self, connection: Connection, publics: Sequence[bytes], head: AuditHead | None) -> None:
        expected = await _signed(connection, publics)
        if head is not None:
            expected.append((head.size, head.root, "the head beside the journal"))
        for size, wanted, what in sorted(expected):
            await self._reach(connection, size, what)
            if self.root() != wanted:
                raise _Bad(self.vouched, f"some leaf from here to {size - 1} was changed: {what} has another root")
            self.vouched = size
            self.checkpoints += 1
        if await store.leaves(connection, self.size, 1):
            raise _Bad(self.size, "this leaf and what follows are under no signed head")

    async def _reach(self, connection: Connection, size: int, what: str) -> None:
        while self.size < size:
            rows = await store.leaves(connection, self.size, min(BATCH, size - self.size))
            if not rows:
                raise _Bad(self.size, f"this leaf is missing: {what} has {size}")
            for index, row in enumerate(rows, start=self.size):
                if row.number != index:
                    raise _Bad(index, "this leaf is missing")
                _check_leaf(index, row)
            made = grow(self.size, [leaf_hash(row.leaf) for row in rows], self._get)
            await self._compare(connection, made)
            self.size += len(rows)
            everything = self._nodes | {(node.level, node.position): node.hash for node in made}
            self._nodes = {place: everything[place] for place in frontier(self.size)}

    async def _compare(self, connection: Connection, made: list[Node]) -> None:
        stored = await store.nodes(connection, [(node.level, node.position) for node in made])
        for node in made:
            if stored.get((node.level, node.position)) != node.hash:
                raise _Bad(node.position << node.level, "the stored tree has another hash from here on")

    def _get(self, level: int, position: int) -> bytes:
        return self._nodes[level, position]


def _check_leaf(index: int, row: store.Row) -> None:
    try:
        entry = parse(row.leaf)
    except Unreadable:
        raise _Bad(index, "this leaf is not an entry") from None
    if entry.entry_id != row.entry_id:
        raise _Bad(index, "this leaf stands under another id")


async def _signed(connection: Connection, publics: Sequence[bytes]) -> list[tuple[int, bytes, str]]:
    origin = origin_of(await store.log_id(connection))
    found = []
    vouched = 0
    for size, note in await store.checkpoints(connection):
        try:
            checkpoint = read(note, publics, origin)
        except Unreadable:
            checkpoint = None
        if checkpoint is None or checkpoint.size != size:
            raise _Bad(vouched, f"the head of {size} leaves is not signed by a known key")
        vouched = size
        found.append((size, checkpoint.root, f"the signed head of {size}"))
    return found
