"""The journal on disk: one flush for many, several processes, crashes, disks that lie, and the audit head beside it."""

import asyncio
import fcntl
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from vault.clock import Micros
from vault.crypto.mac import mac
from vault.errors import ConfigError, Conflict, Unavailable, Unreadable
from vault.journal.file import FILE, Journal
from vault.journal.head import AuditHead
from vault.journal.narrowing import Erasure, Objection, Restriction

KEY = bytes(range(32))


def narrowing(number: int) -> Restriction:
    return Restriction(Micros(number), UUID(int=number))


def numbers(journal: Journal, after: int = 0) -> list[tuple[int, int]]:
    return [(entry.number, entry.narrowing.at) for entry in journal.read(after)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(folder: Path) -> Journal:
    return Journal(folder, KEY)


def test_an_empty_journal_verifies_and_holds_nothing(journal: Journal, folder: Path) -> None:
    assert journal.verify().number == 0
    assert numbers(journal) == []
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


async def test_appended_entries_are_there_for_the_next_process(journal: Journal, folder: Path) -> None:
    assert await journal.append([narrowing(1), narrowing(2)]) == 2
    assert await journal.append([Objection(Micros(3), UUID(int=3), 1)]) == 3
    again = Journal(folder, KEY)
    assert numbers(again) == [(1, 1), (2, 2), (3, 3)]
    assert numbers(again, after=2) == [(3, 3)]
    assert again.verify() == journal.head
    assert again.append_now([narrowing(4)]) == 4
    assert await journal.append([narrowing(5)]) == 5
    assert await journal.append([]) == 5
    assert numbers(journal)[-2:] == [(4, 4), (5, 5)]


async def test_many_waiters_share_few_flushes_and_each_gets_its_number(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes = 0
    flush = os.fsync

    def counted(descriptor: int) -> None:
        nonlocal flushes
        flushes += 1
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    given = await asyncio.gather(*(journal.append([narrowing(n), narrowing(n)]) for n in range(1, 101)))
    assert flushes < 20
    stored = numbers(journal)
    assert len(stored) == 200
    assert all(stored[last - 1][1] == stored[last - 2][1] == n for n, last in enumerate(given, start=1))


async def test_more_than_one_group_is_written_in_order(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.journal.file.MAX_GROUP", 3)
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


def test_processes_that_append_at_once_make_one_chain(journal: Journal, folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from uuid import UUID; from vault.clock import Micros;"
        "from vault.journal.file import Journal; from vault.journal.narrowing import Restriction;"
        "journal = Journal(Path(sys.argv[1]), bytes(range(32)));"
        "[journal.append_now([Restriction(Micros(i), UUID(int=int(sys.argv[2])))]) for i in range(50)]"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(folder), str(who)], env=environment)  # noqa: S603
        for who in range(3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    entries = list(journal.read())
    assert [entry.number for entry in entries] == list(range(1, 151))
    for who in range(3):
        mine = [
            e.narrowing.at for e in entries if isinstance(e.narrowing, Restriction) and e.narrowing.subject.int == who
        ]
        assert mine == list(range(50))


def test_a_process_reads_and_writes_under_the_lock_that_keeps_others_out(
    journal: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether processes that race do meet is chance; that they could not is not."""
    kept_out: list[str] = []

    def watched(name: str) -> None:
        original = getattr(journal, name)

        def step(*args: object) -> object:
            with (folder / FILE).open("rb") as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            kept_out.append(name)
            return original(*args)

        monkeypatch.setattr(journal, name, step)

    watched("_catch_up")
    watched("_put")
    journal.append_now([narrowing(1)])
    assert kept_out == ["_catch_up", "_put"]
    with (folder / FILE).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # free again


@pytest.mark.parametrize("torn", [b"\x00", b"\x00" * 5000, b"\x00\x00\x00\x19"])
def test_an_unfinished_frame_is_passed_over_and_then_cut_off(journal: Journal, folder: Path, torn: bytes) -> None:
    journal.append_now([narrowing(1)])
    with (folder / FILE).open("ab") as file:
        file.write(torn)
    again = Journal(folder, KEY)
    assert numbers(again) == [(1, 1)]
    assert again.append_now([narrowing(2)]) == 2
    assert numbers(journal) == [(1, 1), (2, 2)]


def test_f1_an_edited_journal_is_unreadable_and_takes_no_more(journal: Journal, folder: Path) -> None:
    journal.append_now([narrowing(1), narrowing(2)])
    path = folder / FILE
    whole = path.read_bytes()
    for at in (0, 12, 30, 60, 80, 100):
        changed = bytearray(whole)
        changed[at] ^= 1
        path.write_bytes(changed)
        again = Journal(folder, KEY)
        with pytest.raises(Unreadable):
            again.verify()
        if at >= 8:
            with pytest.raises(Unreadable):
                again.append_now([narrowing(3)])
        path.write_bytes(whole)
    assert Journal(folder, KEY).verify().number == 2


def test_d14_a_journal_that_shrank_under_a_running_process_takes_no_more(journal: Journal, folder: Path) -> None:
    journal.append_now([narrowing(1)])
    first = journal.head
    journal.append_now([narrowing(2)])
    os.truncate(folder / FILE, first.length)
    with pytest.raises(Unreadable):
        journal.append_now([narrowing(3)])


def test_a_frame_with_bytes_that_are_no_narrowing_does_not_verify(journal: Journal) -> None:
    journal._write([b"\xc0"])
    with pytest.raises(Unreadable):
        journal.verify()


def test_another_key_reads_and_writes_nothing(journal: Journal, folder: Path) -> None:
    journal.append_now([narrowing(1)])
    other = Journal(folder, bytes(32))
    for attempt in (other.verify, lambda: list(other.read()), lambda: other.append_now([narrowing(2)])):
        with pytest.raises(Unreadable):
            attempt()


async def test_after_a_failed_flush_nothing_is_ever_appended_again(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.append([narrowing(1)])

    def fail(descriptor: int) -> None:
        raise OSError("EIO")

    monkeypatch.setattr(os, "fsync", fail)
    for outcome in await asyncio.gather(*(journal.append([narrowing(2)]) for _ in range(3)), return_exceptions=True):
        assert isinstance(outcome, Unavailable)
    monkeypatch.undo()
    with pytest.raises(Unavailable):
        await journal.append([narrowing(3)])


async def test_a_full_disk_is_unavailable_and_the_next_process_goes_on(
    journal: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.append([narrowing(1)])

    def half(descriptor: int, data: bytes, at: int) -> int:
        if at > journal.head.length:
            raise OSError("ENOSPC")
        return write(descriptor, data[:20], at)

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(Unavailable):
        await journal.append([narrowing(2)])
    monkeypatch.undo()
    again = Journal(folder, KEY)
    assert await again.append([narrowing(3)]) == 2
    assert numbers(again) == [(1, 1), (2, 3)]


async def test_an_entry_over_the_limit_fails_its_own_group_and_no_later_one(journal: Journal) -> None:
    huge = Erasure(Micros(1), UUID(int=1), tuple(UUID(int=n) for n in range(70_000)))
    with pytest.raises(ValueError, match="1 MiB"):
        await journal.append([huge])
    assert await journal.append([narrowing(2)]) == 1


def test_a_missing_journal_is_unavailable_and_begun_only_where_allowed(journal: Journal, folder: Path) -> None:
    (folder / FILE).unlink()
    for attempt in (
        journal.verify,
        lambda: journal.append_now([narrowing(1)]),
        lambda: Journal(folder, KEY, begin=False),
    ):
        with pytest.raises(Unavailable):
            attempt()
    assert Journal(folder, KEY).verify().number == 0
    assert Journal(folder, KEY, begin=False).verify().number == 0


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError):
        Journal(tmp_path, KEY)


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


# --- the head of the audit log ---------------------------------------------------------------------------------------


def test_the_audit_head_is_kept_beside_the_journal(journal: Journal, folder: Path) -> None:
    assert journal.read_head() is None
    journal.write_head(3, b"\x03" * 32)
    journal.write_head(3, b"\x03" * 32)
    journal.write_head(5, b"\x05" * 32)
    assert Journal(folder, KEY).read_head() == AuditHead(5, b"\x05" * 32)


def test_a6_the_audit_head_goes_neither_back_nor_sideways_unless_the_loss_is_accepted(journal: Journal) -> None:
    journal.write_head(5, b"\x05" * 32)
    for size, root in ((4, b"\x04" * 32), (5, b"\x06" * 32), (0, b"\x00" * 32)):
        with pytest.raises(Conflict):
            journal.write_head(size, root)
    assert journal.read_head() == AuditHead(5, b"\x05" * 32)
    journal.write_head(4, b"\x04" * 32, accept_loss=True)
    assert journal.read_head() == AuditHead(4, b"\x04" * 32)
    with pytest.raises(ValueError, match="32 bytes"):
        journal.write_head(9, b"short")


def test_a12_an_edited_audit_head_is_unreadable_and_not_written_over(journal: Journal, folder: Path) -> None:
    journal.write_head(5, b"\x05" * 32)
    path = folder / "audit.head"
    whole = path.read_bytes()
    for changed in (b"", whole[:-1], whole + b"\x00", b"\x02" + whole[1:], whole[:4] + b"\x01" + whole[5:]):
        path.write_bytes(changed)
        for attempt in (journal.read_head, lambda: journal.write_head(6, b"\x06" * 32)):
            with pytest.raises(Unreadable):
                attempt()
    path.write_bytes(whole)
    with pytest.raises(Unreadable):
        Journal(folder, bytes(32)).read_head()
    body = b"\x02" + whole[1:41]
    path.write_bytes(body + mac(KEY, "audit-head/1", body))
    with pytest.raises(Unreadable):
        journal.read_head()


# --- a disk that is full ----------------------------------------------------------------------------------------------


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size`, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_h13_a_full_disk_refuses_loses_nothing_and_needs_nobody_when_there_is_room_again(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = Journal(folder, KEY)
    await journal.append([narrowing(n) for n in range(1, 4)])
    size = (folder / FILE).stat().st_size
    with files_end_at(size + 10):  # room for a part of a frame
        for _ in range(2):
            with pytest.raises(Unavailable) as refused:
                await journal.append([narrowing(9), narrowing(9)])
            assert refused.value.reason == "journal_unavailable"
        assert (folder / FILE).stat().st_size == size
        assert journal.fault == "journal_unavailable"
        assert [one.number for one in Journal(folder, KEY).read()] == [1, 2, 3]
    assert await journal.append([narrowing(4)]) == 4
    assert journal.fault is None
    assert [one.narrowing for one in Journal(folder, KEY).read()] == [narrowing(n) for n in range(1, 5)]
    assert journal.verify().number == 4
