"""The journal on disk: one flush for many, several processes, crashes, disks that lie, and the audit head beside it."""

import asyncio
import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from vault.clock import Micros
from vault.crypto.mac import mac
from vault.errors import ConfigError, Unavailable, Unreadable
from vault.journal.file import FILE, FileJournal
from vault.journal.journal import Journal
from vault.journal.narrowing import Restriction

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
    return FileJournal(folder, KEY)


def test_an_empty_journal_verifies_and_holds_nothing(journal: Journal, folder: Path) -> None:
    assert journal.verify().number == 0
    assert numbers(journal) == []
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


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


def test_who_waits_for_the_lock_while_the_journal_is_moved_away_writes_nothing(
    journal: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append_now([narrowing(1)])
    flock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        FileJournal(folder, KEY).shut()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(Unavailable):
        journal.append_now([narrowing(2)])
    assert numbers(FileJournal(folder, KEY, shut=True)) == [(1, 1)]


@pytest.mark.parametrize("torn", [b"\x00", b"\x00" * 5000, b"\x00\x00\x00\x19"])
def test_an_unfinished_frame_is_passed_over_and_then_cut_off(journal: Journal, folder: Path, torn: bytes) -> None:
    journal.append_now([narrowing(1)])
    with (folder / FILE).open("ab") as file:
        file.write(torn)
    again = FileJournal(folder, KEY)
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
        again = FileJournal(folder, KEY)
        with pytest.raises(Unreadable):
            again.verify()
        if at >= 8:
            with pytest.raises(Unreadable):
                again.append_now([narrowing(3)])
        path.write_bytes(whole)
    assert FileJournal(folder, KEY).verify().number == 2


def test_d14_a_journal_that_shrank_under_a_running_process_takes_no_more(journal: Journal, folder: Path) -> None:
    journal.append_now([narrowing(1)])
    first = journal.head
    journal.append_now([narrowing(2)])
    os.truncate(folder / FILE, first.length)
    with pytest.raises(Unreadable):
        journal.append_now([narrowing(3)])


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
    again = FileJournal(folder, KEY)
    assert await again.append([narrowing(3)]) == 2
    assert numbers(again) == [(1, 1), (2, 3)]


def test_a_missing_journal_is_unavailable_and_begun_only_where_allowed(journal: Journal, folder: Path) -> None:
    (folder / FILE).unlink()
    for attempt in (
        journal.verify,
        lambda: journal.append_now([narrowing(1)]),
        lambda: FileJournal(folder, KEY, begin=False),
    ):
        with pytest.raises(Unavailable):
            attempt()
    assert FileJournal(folder, KEY).verify().number == 0
    assert FileJournal(folder, KEY, begin=False).verify().number == 0


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError):
        FileJournal(tmp_path, KEY)


# --- the head of the audit log ---------------------------------------------------------------------------------------


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
        FileJournal(folder, bytes(32)).read_head()
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
    journal = FileJournal(folder, KEY)
    await journal.append([narrowing(n) for n in range(1, 4)])
    size = (folder / FILE).stat().st_size
    with files_end_at(size + 10):  # room for a part of a frame
        for _ in range(2):
            with pytest.raises(Unavailable) as refused:
                await journal.append([narrowing(9), narrowing(9)])
            assert refused.value.reason == "journal_unavailable"
        assert (folder / FILE).stat().st_size == size
        assert journal.fault == "journal_unavailable"
        assert [one.number for one in FileJournal(folder, KEY).read()] == [1, 2, 3]
    assert await journal.append([narrowing(4)]) == 4
    assert journal.fault is None
    assert [one.narrowing for one in FileJournal(folder, KEY).read()] == [narrowing(n) for n in range(1, 5)]
    assert journal.verify().number == 4
