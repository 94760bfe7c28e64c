"""What the sweep saw, as a file: read whole or not at all, taken up where it broke off, replaced in one go (threats A6, A12)."""

from pathlib import Path
from uuid import UUID

import pytest

from vault.clock import Micros
from vault.errors import Unreadable
from vault.journal.witness import FILE, MAGIC, MERGED, NEVER, OLDER, UNFINISHED, Round, Seen, finished_at, forget, read

NOW, LATER = Micros(1_000), Micros(2_000)
KEY, OTHER = bytes(range(32)), bytes(32)
SEEN = [Seen(UUID(int=number), number * 3, kept=number % 2 == 0) for number in range(1, 5001)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = Round(tmp_path, KEY)
    made.add(SEEN)
    assert made.finish(NOW, set) == len(SEEN)
    return tmp_path


def test_what_was_seen_is_read_again_in_order(folder: Path) -> None:
    assert list(read(folder, KEY)) == SEEN
    assert not (folder / UNFINISHED).exists()


def test_its_bytes_are_those_of_the_page(tmp_path: Path) -> None:
    """docs/formats/seen.md, by hand."""
    made = Round(tmp_path, KEY)
    made.add([Seen(UUID(int=1), 7, kept=True)])
    made.finish(NOW, set)
    data = (tmp_path / FILE).read_bytes()
    record = bytes(15) + b"\x01" + bytes(7) + b"\x07" + b"\x01"
    assert data[:-32] == b"PVSEEN02" + record + NOW.to_bytes(8, "big") + bytes(7) + b"\x01"
    assert len(data) == 8 + 25 + 8 + 8 + 32


def test_before_the_first_round_nobody_was_seen(tmp_path: Path) -> None:
    assert list(read(tmp_path, KEY)) == []


def test_a_round_goes_on_behind_its_last_record(tmp_path: Path) -> None:
    Round(tmp_path, KEY).add(SEEN[:10])
    again = Round(tmp_path, KEY)
    assert again.last == SEEN[9].subject
    again.add(SEEN[10:20])
    assert again.finish(NOW, set) == 20
    assert list(read(tmp_path, KEY)) == SEEN[:20]
    assert not (tmp_path / MERGED).exists()


@pytest.mark.parametrize("rest", [b"half a record", bytes(25), b""])
def test_a_round_that_a_crash_cut_begins_anew(tmp_path: Path, rest: bytes) -> None:
    Round(tmp_path, KEY).add(SEEN[:10])
    data = (tmp_path / UNFINISHED).read_bytes()
    (tmp_path / UNFINISHED).write_bytes(data[:-1] + rest)
    assert Round(tmp_path, KEY).last is None


@pytest.mark.parametrize("magic", [MAGIC, OLDER])
@pytest.mark.parametrize("since", [b"", bytes(8), NOW.to_bytes(8, "big")])
def test_a12_who_has_no_key_ends_no_round(folder: Path, magic: bytes, since: bytes) -> None:
    """One record of the last id there is, as if everybody had been looked at: the vault must not sign that."""
    for tail in (b"", bytes(32)):
        (folder / UNFINISHED).write_bytes(magic + since + b"\xff" * 16 + bytes(8) + b"\x01" + tail)
        begun = Round(folder, KEY)
        assert begun.last is None
    begun.finish(LATER, set)
    assert list(read(folder, KEY)) == [one for one in SEEN if not one.kept]  # who was kept by law may go


def test_a12_an_older_unfinished_file_is_not_gone_on_with(folder: Path) -> None:
    Round(folder, KEY).add(SEEN[:100])
    older = (folder / UNFINISHED).read_bytes()
    Round(folder, KEY).finish(LATER, set)
    (folder / UNFINISHED).write_bytes(older)
    assert Round(folder, KEY).last is None


def test_a6_a_finished_round_knows_no_less_than_the_one_before(folder: Path) -> None:
    """The higher version of each stays; who is missing goes only if the journal knows why."""
    erased, missing, lower, higher = SEEN[0], SEEN[2], SEEN[4], SEEN[6]
    now = Round(folder, KEY)
    now.add([lower._replace(version=1), higher._replace(version=999)])
    now.finish(LATER, lambda: {erased.subject.bytes})
    kept = {one.subject: one for one in read(folder, KEY)}
    assert erased.subject not in kept
    assert kept[missing.subject] == missing
    assert kept[lower.subject] == lower
    assert kept[higher.subject].version == 999


def test_a_file_says_when_its_round_was_finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert finished_at(folder, KEY) == NOW
    Round(folder, KEY).finish(LATER, set)
    assert finished_at(folder, KEY) == LATER
    assert finished_at(tmp_path_factory.mktemp("none"), KEY) == NEVER
    (folder / FILE).write_bytes(OLDER + bytes(40))
    assert finished_at(folder, KEY) == NEVER
    assert list(read(folder, KEY)) == []


def test_an_unfinished_round_leaves_the_one_before_as_it_was(folder: Path) -> None:
    Round(folder, KEY).add(SEEN[:3])
    assert list(read(folder, KEY)) == SEEN
    begun = Round(folder, KEY)
    begun.begin()
    assert begun.last is None


@pytest.mark.parametrize("at", [0, 7, 8, 23, 24, 31, 32, -1, -32, -33, -40])
def test_a12_an_edited_file_is_unreadable_before_its_first_record(folder: Path, at: int) -> None:
    data = bytearray((folder / FILE).read_bytes())
    data[at] ^= 1
    (folder / FILE).write_bytes(data)
    with pytest.raises(Unreadable):
        next(read(folder, KEY))


@pytest.mark.parametrize("size", [0, 1, 8, 47, 48, 49, 72, 1000])
def test_a12_a_file_cut_or_made_longer_is_unreadable(folder: Path, size: int) -> None:
    data = (folder / FILE).read_bytes()
    for changed in (data[:size], data + bytes(size + 1), data[size + 1 :]):
        (folder / FILE).write_bytes(changed)
        with pytest.raises(Unreadable):
            list(read(folder, KEY))


def test_another_key_reads_nothing(folder: Path) -> None:
    with pytest.raises(Unreadable):
        list(read(folder, OTHER))


def test_what_is_forgotten_is_gone(folder: Path) -> None:
    Round(folder, KEY).add(SEEN[:3])
    forget(folder)
    forget(folder)
    assert list(read(folder, KEY)) == []
    assert Round(folder, KEY).last is None
