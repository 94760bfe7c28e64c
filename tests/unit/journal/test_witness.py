"""What the sweep saw, as a file: read whole or not at all, taken up where it broke off, replaced in one go (threats A6, A12)."""

from pathlib import Path
from uuid import UUID

import pytest

from vault.errors import Unreadable
from vault.journal.witness import FILE, UNFINISHED, Round, Seen, forget, read

KEY, OTHER = bytes(range(32)), bytes(32)
SEEN = [Seen(UUID(int=number), number * 3, kept=number % 2 == 0) for number in range(1, 5001)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = Round(tmp_path, KEY)
    made.add(SEEN)
    assert made.finish() == len(SEEN)
    return tmp_path


def test_what_was_seen_is_read_again_in_order(folder: Path) -> None:
    assert list(read(folder, KEY)) == SEEN
    assert not (folder / UNFINISHED).exists()


def test_its_bytes_are_those_of_the_page(tmp_path: Path) -> None:
    """docs/formats/seen.md, by hand."""
    made = Round(tmp_path, KEY)
    made.add([Seen(UUID(int=1), 7, kept=True)])
    made.finish()
    data = (tmp_path / FILE).read_bytes()
    record = bytes(15) + b"\x01" + bytes(7) + b"\x07" + b"\x01"
    assert data[:-32] == b"PVSEEN01" + record + bytes(7) + b"\x01"
    assert len(data) == 8 + 25 + 8 + 32


def test_before_the_first_round_nobody_was_seen(tmp_path: Path) -> None:
    assert list(read(tmp_path, KEY)) == []


def test_a_round_goes_on_behind_its_last_whole_record(tmp_path: Path) -> None:
    begun = Round(tmp_path, KEY)
    begun.add(SEEN[:10])
    with (tmp_path / UNFINISHED).open("ab") as file:
        file.write(b"half a record")
    again = Round(tmp_path, KEY)
    assert again.last == SEEN[9].subject
    again.add(SEEN[10:20])
    assert again.finish() == 20
    assert list(read(tmp_path, KEY)) == SEEN[:20]


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
