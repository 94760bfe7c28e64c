"""What every journal promises, wherever it lies: in a folder, or in a second PostgreSQL. One suite over both."""

import asyncio
import hashlib
import os
import pickle
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from vault.clock import Micros
from vault.crypto.mac import mac
from vault.errors import Conflict, Unavailable, Unreadable
from vault.journal import frames
from vault.journal.file import FILE, FileJournal
from vault.journal.head import AuditHead
from vault.journal.journal import NOWHERE, Journal
from vault.journal.narrowing import Erasure, Objection, Restriction
from vault.journal.opening import open_journal
from vault.journal.postgres import PostgresJournal
from vault.storage.aside import Aside

KEY = bytes(range(32))
ROOTS = {size: bytes([size]) * 32 for size in range(10)}


def narrowing(number: int) -> Restriction:
    return Restriction(Micros(number), UUID(int=number))


def numbers(journal: Journal, after: int = 0) -> list[tuple[int, int]]:
    return [(entry.number, entry.narrowing.at) for entry in journal.read(after)]


class Place(ABC):
    """Where a journal lies, and what somebody without its key can do to it there."""

    where: Path | str

    def __init__(self) -> None:
        self.made: list[Journal] = []

    def open(self, key: bytes = KEY, **options: bool) -> Journal:
        self.made.append(open_journal(self.where, key, **options))
        return self.made[-1]

    @abstractmethod
    def frames(self) -> list[bytes]:
        """All that is stored."""

    @abstractmethod
    def put(self, found: list[bytes]) -> None:
        """These instead, and all that is not vouched for by a code made to agree with them."""

    @abstractmethod
    def lose(self) -> None:
        """The journal, not what lies beside it."""

    @abstractmethod
    def beside(self, data: bytes) -> None:
        """Other bytes for the audit head."""


class Folder(Place):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.where = folder
        self.file = folder / FILE

    def frames(self) -> list[bytes]:
        data = self.file.read_bytes()[8:]
        ends = [0, *(end.length - 8 for _, end in frames.read(data, frames.START, KEY))]
        return [data[a:b] for a, b in pairwise(ends)]

    def put(self, found: list[bytes]) -> None:
        self.file.write_bytes(frames.MAGIC + b"".join(found))

    def lose(self) -> None:
        self.file.unlink()

    def beside(self, data: bytes) -> None:
        (self.file.parent / "audit.head").write_bytes(data)


class Server(Place):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.where = url
        self.outsider = Aside(url, name="outsider", code="unavailable")

    def sql(self, statement: str, *values: Any) -> list[Any]:
        async def job(connection: Any) -> list[Any]:
            return list(await connection.fetch(statement, *values))

        return self.outsider.run(job)

    def frames(self) -> list[bytes]:
        return [row["bytes"] for row in self.sql("SELECT bytes FROM journal.frame ORDER BY number")]

    def put(self, found: list[bytes]) -> None:
        self.sql("TRUNCATE journal.frame")
        for number, one in enumerate(found, start=1):
            self.sql("INSERT INTO journal.frame VALUES ($1, $2)", number, one)
        length = 8 + sum(map(len, found))
        last = hashlib.sha256(found[-1]).digest() if found else frames.START.hash
        self.sql("UPDATE journal.head SET number = $1, hash = $2, length = $3", len(found), last, length)

    def lose(self) -> None:
        self.sql("DROP TABLE journal.frame")

    def beside(self, data: bytes) -> None:
        self.sql("UPDATE journal.kept SET bytes = $1 WHERE name = 'audit.head'", data)


@pytest.fixture(params=["folder", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    folder = request.param == "folder"
    made: Place = Folder(tmp_path / "journal") if folder else Server(request.getfixturevalue("empty_url"))
    yield made
    for journal in made.made:
        journal.close()
    if isinstance(made, Server):
        made.outsider.close()


@pytest.fixture
def journal(place: Place) -> Journal:
    return place.open()


# --- appended, and read -----------------------------------------------------------------------------------------------


def test_an_empty_journal_verifies_and_holds_nothing(journal: Journal) -> None:
    assert journal.verify() == journal.head == frames.START
    assert numbers(journal) == []
    assert journal.fault is None
    journal.probe()


async def test_appended_entries_are_there_for_the_next_process(journal: Journal, place: Place) -> None:
    assert await journal.append([narrowing(1), narrowing(2)]) == 2
    assert await journal.append([Objection(Micros(3), UUID(int=3), 1)]) == 3
    again = place.open(begin=False)
    assert numbers(again) == [(1, 1), (2, 2), (3, 3)]
    assert numbers(again, after=2) == [(3, 3)]
    assert again.verify() == journal.head
    assert again.append_now([narrowing(4)]) == 4
    assert await journal.append([narrowing(5)]) == 5
    assert await journal.append([]) == 5
    assert again.append_now([]) == 5
    assert numbers(journal)[-2:] == [(4, 4), (5, 5)]
    assert again.verify() == journal.head


async def test_both_places_hold_the_same_bytes(tmp_path: Path, empty_url: str) -> None:
    found = []
    for where in (tmp_path / "journal", empty_url):
        one: Place = Folder(where) if isinstance(where, Path) else Server(where)
        opened = one.open()
        await opened.append([narrowing(n) for n in range(1, 8)])
        opened.append_now([Erasure(Micros(9), UUID(int=9), (UUID(int=1),))])
        opened.keep_policy(b"\x01" * 32, b"{}")
        opened.keep_policy(b"\x01" * 32, b'{"a":1}')
        opened.write_head(3, ROOTS[3])
        assert (opened.policies(), opened.policy(b"\x01" * 32)) == ([b"\x01" * 32], b'{"a":1}')
        assert opened.policy(bytes(32)) is None
        found.append((one.frames(), opened.verify(), opened.copied(), opened.since(NOWHERE)))
        opened.close()
        if isinstance(one, Server):
            one.outsider.close()
    assert found[0] == found[1]
    assert set(found[0][2]) == {FILE, "audit.head", f"policies/{'01' * 32}.json"}


def test_d14_what_came_since_a_place_is_told_and_a_place_that_is_not_there_is_an_outage(
    journal: Journal, place: Place
) -> None:
    journal.append_now([narrowing(1), narrowing(2)])
    _, here = journal.since(NOWHERE)
    journal.append_now([narrowing(3)])
    again = place.open(begin=False)
    assert again.since(here)[0] == [narrowing(3)]
    with pytest.raises(Unavailable) as refused:
        again.since(here._replace(hash=bytes(32)))
    assert refused.value.reason == "journal_behind"


async def test_many_waiters_share_few_flushes_and_each_gets_its_number(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes = 0
    write = journal._write

    def counted(payloads: list[bytes]) -> int:
        nonlocal flushes
        flushes += 1
        return write(payloads)

    monkeypatch.setattr(journal, "_write", counted)
    given = await asyncio.gather(*(journal.append([narrowing(n), narrowing(n)]) for n in range(1, 101)))
    assert flushes < 20
    stored = numbers(journal)
    assert len(stored) == 200
    assert all(stored[last - 1][1] == stored[last - 2][1] == n for n, last in enumerate(given, start=1))


async def test_more_than_one_group_is_written_in_order(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.journal.journal.MAX_GROUP", 3)
    given = await asyncio.gather(*(journal.append([narrowing(n)] * 2) for n in range(1, 10)))
    assert given == [2 * n for n in range(1, 10)]
    assert [at for _, at in numbers(journal)] == [n for n in range(1, 10) for _ in range(2)]


async def test_a_waiter_that_gives_up_does_not_stop_the_others(journal: Journal) -> None:
    first = asyncio.create_task(journal.append([narrowing(1)]))
    second = asyncio.create_task(journal.append([narrowing(2)]))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 2
    assert first.cancelled()
    assert numbers(journal) == [(1, 1), (2, 2)]


def test_processes_that_append_at_once_make_one_chain(journal: Journal, place: Place) -> None:
    """1,000 each, one by one, as two hosts would; fewer in a folder, where a lock of the kernel keeps them apart."""
    count = 1000 if isinstance(place, Server) else 100
    script = (
        "import sys; from pathlib import Path; from uuid import UUID; from vault.clock import Micros;"
        "from vault.journal.opening import open_journal; from vault.journal.narrowing import Restriction;"
        "where = sys.argv[1] if '://' in sys.argv[1] else Path(sys.argv[1]);"
        "journal = open_journal(where, bytes(range(32)), begin=False);"
        "[journal.append_now([Restriction(Micros(i), UUID(int=int(sys.argv[2])))]) for i in range(int(sys.argv[3]))];"
        "journal.close()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(place.where), str(who), str(count)], env=environment)  # noqa: S603
        for who in range(2)
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    entries = list(journal.read())
    assert [entry.number for entry in entries] == list(range(1, 2 * count + 1))
    for who in range(2):
        mine = [
            e.narrowing.at for e in entries if isinstance(e.narrowing, Restriction) and e.narrowing.subject.int == who
        ]
        assert mine == list(range(count))
    assert journal.append_now([narrowing(1)]) == 2 * count + 1
    assert journal.verify() == journal.head


async def test_an_entry_over_the_limit_fails_its_own_group_and_no_later_one(journal: Journal) -> None:
    huge = Erasure(Micros(1), UUID(int=1), tuple(UUID(int=n) for n in range(70_000)))
    with pytest.raises(ValueError, match="1 MiB"):
        await journal.append([huge])
    assert await journal.append([narrowing(2)]) == 1


def test_waiters_of_a_loop_that_ends_are_told(journal: Journal) -> None:
    async def leave() -> asyncio.Task[int]:
        waiter = asyncio.create_task(journal.append([narrowing(1)]))
        await asyncio.sleep(0)
        return waiter

    waiter = asyncio.run(leave())
    assert waiter.cancelled()
    assert asyncio.run(journal.append([narrowing(2)])) in {1, 2}
    assert numbers(journal)[-1][1] == 2


def test_the_journal_shows_nothing_and_does_not_travel(journal: Journal) -> None:
    assert repr(journal) == "Journal(at 0)"
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(journal)


# --- missing, edited, shorter -------------------------------------------------------------------------------------------


def test_a_missing_journal_is_unavailable_and_begun_only_where_allowed(journal: Journal, place: Place) -> None:
    journal.append_now([narrowing(1)])
    place.lose()
    for attempt in (
        journal.verify,
        lambda: list(journal.read()),
        lambda: journal.append_now([narrowing(1)]),
        lambda: place.open(begin=False),
    ):
        with pytest.raises(Unavailable):
            attempt()


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


EDITS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "length": lambda all_: [changed(all_[0], 3), *all_[1:]],
    "number": lambda all_: [changed(all_[0], 11), *all_[1:]],
    "hash before": lambda all_: [all_[0], changed(all_[1], 20), *all_[2:]],
    "payload": lambda all_: [changed(all_[0], 50), *all_[1:]],
    "code": lambda all_: [*all_[:-1], changed(all_[-1], len(all_[-1]) - 1)],
    "swapped": lambda all_: [all_[1], all_[0], *all_[2:]],
    "first missing": lambda all_: all_[1:],
    "middle missing": lambda all_: [all_[0], *all_[2:]],
    "one twice": lambda all_: [all_[0], *all_],
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_f1_an_edited_journal_is_unreadable_and_takes_no_more(
    journal: Journal, place: Place, edit: Callable[[list[bytes]], list[bytes]]
) -> None:
    journal.append_now([narrowing(n) for n in (1, 2, 3)])
    whole = place.frames()
    place.put(edit(whole))
    again = place.open(begin=False)
    for attempt in (again.verify, lambda: list(again.read()), lambda: again.append_now([narrowing(4)])):
        with pytest.raises(Unreadable):
            attempt()
    place.put(whole)
    assert place.open(begin=False).append_now([narrowing(4)]) == 4


@pytest.mark.parametrize("left", [0, 1])
def test_d14_a_journal_that_shrank_under_a_running_process_takes_no_more(
    journal: Journal, place: Place, left: int
) -> None:
    journal.append_now([narrowing(1), narrowing(2)])
    place.put(place.frames()[:left])
    for _ in range(2):
        with pytest.raises(Unreadable):
            journal.append_now([narrowing(3)])
    assert len(place.frames()) == left


def test_d14_a_journal_that_went_back_and_grew_again_is_another_one(journal: Journal, place: Place) -> None:
    """In a database even at the same length; a file of the same length is read when it is longer, or read as a whole."""
    grown = 1 if isinstance(place, Server) else 2
    journal.append_now([narrowing(1), narrowing(2)])
    place.put(place.frames()[:1])
    other = place.open(begin=False)
    other.append_now([narrowing(8 + n) for n in range(grown)])
    with pytest.raises(Unreadable):
        journal.append_now([narrowing(3)])


def test_a_frame_with_bytes_that_are_no_narrowing_does_not_verify(journal: Journal) -> None:
    journal._write([b"\xc0"])
    with pytest.raises(Unreadable):
        journal.verify()


def test_another_key_reads_and_writes_nothing(journal: Journal, place: Place) -> None:
    journal.append_now([narrowing(1)])
    other = place.open(bytes(32), begin=False)
    for attempt in (other.verify, lambda: list(other.read()), lambda: other.append_now([narrowing(2)])):
        with pytest.raises(Unreadable):
            attempt()


# --- the head of the audit log ----------------------------------------------------------------------------------------


def test_the_audit_head_is_kept_beside_the_journal(journal: Journal, place: Place) -> None:
    assert journal.read_head() is None
    journal.write_head(3, ROOTS[3])
    journal.write_head(3, ROOTS[3])
    journal.write_head(5, ROOTS[5])
    assert place.open(begin=False).read_head() == AuditHead(5, ROOTS[5])


def test_a6_the_audit_head_goes_neither_back_nor_sideways_unless_the_loss_is_accepted(journal: Journal) -> None:
    journal.write_head(5, ROOTS[5])
    for size, root in ((4, ROOTS[4]), (5, ROOTS[6]), (0, ROOTS[0])):
        with pytest.raises(Conflict):
            journal.write_head(size, root)
    assert journal.read_head() == AuditHead(5, ROOTS[5])
    journal.write_head(4, ROOTS[4], accept_loss=True)
    assert journal.read_head() == AuditHead(4, ROOTS[4])
    with pytest.raises(ValueError, match="32 bytes"):
        journal.write_head(9, b"short")


def test_a12_an_edited_audit_head_is_unreadable_and_not_written_over(journal: Journal, place: Place) -> None:
    journal.write_head(5, ROOTS[5])
    whole = journal.kept("audit.head", 100)
    assert whole is not None
    other = b"\x02" + whole[1:41]
    for data in (
        whole[:-1],
        whole + b"\x00",
        b"\x02" + whole[1:],
        whole[:4] + b"\x01" + whole[5:],
        other + mac(KEY, "audit-head/1", other),
    ):
        place.beside(data)
        for attempt in (journal.read_head, lambda: journal.write_head(6, ROOTS[6])):
            with pytest.raises(Unreadable):
                attempt()
    place.beside(whole)
    with pytest.raises(Unreadable):
        place.open(bytes(32), begin=False).read_head()


def test_the_two_places_are_what_the_suite_takes_them_for(journal: Journal, place: Place) -> None:
    assert type(journal) is (FileJournal if isinstance(place, Folder) else PostgresJournal)
