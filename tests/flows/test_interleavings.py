"""Whatever happens beside an erasure happened before it, or after it (threats D1, D3, D8, D9, B6, B7).

Steps times intruders: the erasure stands before each of its statements in turn while the intruder runs to its end, or until
it waits for a lock; and the other way round. What is before is erased, what is after is dropped or begins a new, unlinked
subject; nothing is readable afterwards, there is one certificate, and a recipient that got something of the person stands in
it. The tests take a part of the matrix, another every day; with `INTERLEAVINGS=all` in the environment they take all of it.
"""

import hashlib
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final
from uuid import UUID

import pytest

from tests.flows import turnstile
from tests.flows.feed_world import Reader
from tests.flows.rights_world import officer, rows_of
from tests.flows.turnstile import Ended, Turnstile
from tests.worlds import World, identify, message, order, say
from vault.errors import Conflict, Gone, NotFound, Unavailable, VaultError
from vault.flows import lookup
from vault.flows.find import find, resolve_ref
from vault.flows.honour import intake
from vault.flows.honour.advance import advance
from vault.flows.honour.intake import fetch_archive, open_request
from vault.flows.rotate import rotate
from vault.keys.names import purpose_of
from vault.rights import certificate

DAILY: Final = 2  # boundaries of each pair that a test run takes, beside the first and the last
TOOL: Final = "email-tool"
_people: Final = itertools.count(1)


class Case:
    """Ada and Bob of one run, and everything that is done to them."""

    def __init__(self, world: World, reader: Reader) -> None:
        self.world, self.vault, self.reader = world, world.vault, reader
        number = next(_people)
        self.ada, self.bob = f"ada-{number}", f"bob-{number}"
        self.actor = officer(world.vault)
        self.opened: list[UUID] = []

    async def begin(self) -> None:
        """Both are there; Bob has no order, so that what is kept is Ada's. The tool has seen neither of them."""
        await self.reader.read()
        await self.world.send(
            identify(self.ada, anon=f"phone-{self.ada}", email=self.mail(self.ada), firstName="Ada"),
            order(self.ada, 20),
            identify(anon=self.bob, email=self.mail(self.bob), firstName="Bob"),
        )
        await self.world.settle()
        self.cursor = self.reader.cursor
        self.ref = await find(self.vault, self.actor, "user_id", self.ada)
        self.root = await resolve_ref(self.vault, self.actor, self.ref)

    @staticmethod
    def mail(who: str) -> str:
        return f"{who}@planted.example"

    # --- the erasure --------------------------------------------------------------------------------------------------

    async def erase(self) -> UUID:
        """Asked for by an officer, and carried on by the worker, to its certificate."""
        request = await open_request(self.vault, self.actor, self.ref, "erasure")
        self.opened.append(request)
        await advance(self.vault, request)
        return request

    # --- intruders ----------------------------------------------------------------------------------------------------

    async def ingest(self) -> Any:
        """An order of hers, and a new address."""
        return await self.world.send(order(self.ada, 30), identify(self.ada, email=f"new-{self.mail(self.ada)}"))

    async def merge(self) -> Any:
        """A message that says that Bob, whom only a device knows, is she."""
        return await self.world.send(message("alias", self.ada, previousId=self.bob))

    async def withdraw(self) -> Any:
        """She takes back what she agreed to."""
        return await self.world.choose(say("marketing", "withdrawn"), user=self.ada)

    async def feed(self) -> Any:
        """The tool reads what it has not seen; answers the addresses."""
        reader = Reader(self.vault, TOOL)
        reader.cursor = self.cursor
        await reader.read()
        return reader.emails()

    async def look(self) -> Any:
        """The tool looks her up; answers the addresses."""
        found = await lookup.traits(self.vault, TOOL, "email", self.mail(self.ada))
        return {json.loads(bytes(found["traits"]["email"]))}

    async def again(self) -> Any:
        """Another officer asks for the same erasure."""
        other = officer(self.vault)
        request = await open_request(self.vault, other, await find(self.vault, other, "user_id", self.ada), "erasure")
        self.opened.append(request)
        await advance(self.vault, request)
        return request

    async def rotate(self) -> Any:
        """Every epoch ends, and everybody's keys are wrapped anew."""
        names = [name for name in self.vault.keystore.names() if purpose_of(name) is not None]
        return (await rotate(self.vault, names)).done

    async def access(self) -> Any:
        """An access request, answered."""
        other = officer(self.vault)
        request = await open_request(self.vault, other, await find(self.vault, other, "user_id", self.ada), "access")
        await advance(self.vault, request)
        return request


INTRUDERS: Final[dict[str, Callable[[Case], Any]]] = {
    "ingest": lambda case: case.ingest,
    "merge": lambda case: case.merge,
    "withdraw": lambda case: case.withdraw,
    "feed": lambda case: case.feed,
    "look": lambda case: case.look,
    "again": lambda case: case.again,
    "access": lambda case: case.access,
    "rotate": lambda case: case.rotate,
}


# --- what must hold afterwards ----------------------------------------------------------------------------------------


async def judge(case: Case, intruder: str, erased: Any, intruded: Any) -> int:
    """Serial: as if the intruder had come before the erasure, or after it. Answers how many subjects were the person."""
    vault = case.vault
    assert not isinstance(erased, VaultError), f"the erasure ended with {erased!r}"
    fine = (NotFound, Gone, Conflict, Unavailable)
    assert not isinstance(intruded, VaultError) or isinstance(intruded, fine), f"the intruder ended with {intruded!r}"
    assert set(case.opened) == {erased}, "two erasures of one person"
    await case.world.settle()

    members = [UUID(bytes=row[0].bytes) for row in await rows_of(vault, _ERASED, erased)]
    assert case.root in members
    for kind, value in (("user_id", case.ada), ("email", case.mail(case.ada)), ("email", f"new-{case.mail(case.ada)}")):
        subject = await case.world.subject(value, kind)
        assert subject is None or subject not in members, f"{kind} finds the erased person"
    bob = await case.world.subject(case.bob, "anonymous_id")
    assert bob is not None or len(members) > 1, "Bob is gone, and was no part of the erased profile"
    assert bob is None or bob not in members

    revisions = await rows_of(vault, "SELECT document FROM certificate WHERE request_id = $1 ORDER BY revision", erased)
    first = certificate.parse(revisions[0][0]).document
    assert first["revision"] == 1
    last = certificate.parse(revisions[-1][0]).document
    assert last["scan"]["residue"] == []
    assert await rows_of(vault, "SELECT FROM keys.subject_key WHERE subject_id = ANY ($1)", members) == []  # D9, too
    assert last["subjects"] == len(members)
    assert [one["purpose"] for one in last["kept"]] == ["accounting"]

    got = intruder in {"feed", "look"} and isinstance(intruded, set) and case.mail(case.ada) in intruded
    owing = [one["destination"] for one in last["due"]]
    assert owing == ([TOOL] if got else []), f"the tool got {'something' if got else 'nothing'}, and owes {owing}"
    if intruder == "access":
        nobodys = "SELECT FROM archive a LEFT JOIN request r USING (request_id) WHERE r.subject_id IS NULL"
        assert await rows_of(vault, nobodys) == []
        if isinstance(intruded, UUID):
            with pytest.raises((Gone, NotFound)):
                await fetch_archive(vault, case.actor, intruded)
    await case.reader.read()
    assert case.mail(case.ada) not in case.reader.emails()
    assert bob is None or case.mail(case.bob) in case.reader.emails()
    return len(members)


_ERASED: Final = "SELECT subject_id FROM erased WHERE request_id = $1"


# --- the matrix -------------------------------------------------------------------------------------------------------


async def _busy(*_: object) -> None:
    """An erasure in one go that others came between: it is taken step by step."""


class Matrix:
    """All pairs, on one vault: each run has people of its own."""

    def __init__(self, world: World, stile: Turnstile) -> None:
        self._world, self._stile = world, stile
        self._reader = Reader(world.vault, TOOL)
        self.runs = self.waited = self.joined = 0

    async def count(self, intruder: str, *, inverse: bool) -> list[str]:
        """The boundaries of whoever is to stand."""
        case = Case(self._world, self._reader)
        await case.begin()
        main = INTRUDERS[intruder](case) if inverse else case.erase
        return (await self._stile.run(case.vault, None, main)).names

    async def run(self, intruder: str, at: int, *, inverse: bool) -> Ended:
        """One cell."""
        case = Case(self._world, self._reader)
        await case.begin()
        intrude = INTRUDERS[intruder](case)
        main, other = (intrude, case.erase) if inverse else (case.erase, intrude)
        ended = await self._stile.run(case.vault, at, main, other)
        erased, intruded = (ended.other, ended.main) if inverse else (ended.main, ended.other)
        try:
            self.joined += await judge(case, intruder, erased, intruded) > 1
        except BaseException as error:
            where = ended.names[at] if at < len(ended.names) else "the end"
            order_ = "beside the erasure, which ran while it stood" if inverse else "while the erasure stood"
            error.add_note(f"{intruder} {order_} at {at} ({where}); waited: {ended.waited}; answered: {intruded!r}")
            raise
        self.runs += 1
        self.waited += ended.waited
        return ended


def chosen(count: int, seed: str, daily: int = DAILY) -> list[int]:
    """The first, the last, and some between: others every day."""
    if os.environ.get("INTERLEAVINGS") == "all":
        return list(range(count))
    ranked = sorted(range(count), key=lambda n: hashlib.sha256(f"{seed}/{n}".encode()).digest())
    return sorted({0, count - 1, *ranked[:daily]})


@pytest.fixture
def stile() -> Iterator[Turnstile]:
    with turnstile.install() as made:
        yield made


@pytest.fixture
async def matrix(stile: Turnstile, world: World) -> AsyncIterator[Matrix]:
    """`stile` first: the vault's connections are made afterwards."""
    return Matrix(world, stile)


@pytest.mark.parametrize("intruder", INTRUDERS)
@pytest.mark.parametrize("way", ["at once", "step by step"])
async def test_d1_d3_d8_d9_b6_b7_while_an_erasure_stands_at_any_statement(
    matrix: Matrix, monkeypatch: pytest.MonkeyPatch, way: str, intruder: str
) -> None:
    if way == "step by step":
        monkeypatch.setattr(intake, "erase_at_once", _busy)
    names = await matrix.count(intruder, inverse=False)
    assert "journal" in names
    for at in chosen(len(names), f"{time.strftime('%F')}/{way}/{intruder}"):
        assert (await matrix.run(intruder, at, inverse=False)).stood, names[at]
    assert (matrix.joined > 0) == (intruder == "merge")  # who was joined before the fence goes with her


@pytest.mark.parametrize("intruder", INTRUDERS)
@pytest.mark.parametrize("way", ["at once", "step by step"])
async def test_d1_d3_d8_d9_b6_b7_while_an_intruder_stands_at_any_statement(
    matrix: Matrix, monkeypatch: pytest.MonkeyPatch, way: str, intruder: str
) -> None:
    """A page that was decided before the fence, an event that was read for, an archive that is being made."""
    names = await matrix.count(intruder, inverse=True)
    if way == "step by step":
        monkeypatch.setattr(intake, "erase_at_once", _busy)
    stood = 0
    for at in chosen(len(names), f"{time.strftime('%F')}/{way}/{intruder}", daily=1):
        ended = await matrix.run(intruder, at, inverse=True)
        # A rotation takes as many statements as there is to move, so another one may be through before that boundary.
        assert ended.stood or (intruder == "rotate" and at >= len(ended.names)), names[at]
        stood += ended.stood
    assert stood
