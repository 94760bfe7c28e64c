"""Small private files: whole or as they were."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from vault import durable
from vault.errors import ConfigError, Unreadable


def test_a_file_is_written_private_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write(path, b"first")
    durable.write(path, b"second")
    assert durable.read_private(path, 10) == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    durable.write(path, b"first")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        durable.write(path, b"second")
    assert path.read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_crashed_process_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / f".file.{os.getpid()}.new").write_bytes(b"half")
    durable.write(tmp_path / "file", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    target = tmp_path / "target"
    durable.write(target, b"kept")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(ConfigError):
        durable.read_private(tmp_path / "link", 10)
    durable.write(tmp_path / "link", b"new")
    assert target.read_bytes() == b"kept"


def test_a_file_over_its_limit_or_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write(path, b"12345")
    assert durable.read_private(path, 5) == b"12345"
    with pytest.raises(Unreadable):
        durable.read_private(path, 4)
    path.chmod(0o604)
    with pytest.raises(ConfigError, match="chmod 600"):
        durable.read_private(path, 10)
    with pytest.raises(FileNotFoundError):
        durable.read_private(tmp_path / "none", 10)


def test_a_file_that_must_be_new_is_never_replaced(tmp_path: Path) -> None:
    durable.create(tmp_path / "file", b"first")
    with pytest.raises(FileExistsError):
        durable.create(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"


def test_a_crash_while_a_new_file_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        durable.create(path, b"first")
    assert not path.exists()


def test_a_folder_is_made_closed_and_an_open_one_or_a_file_is_refused(tmp_path: Path) -> None:
    durable.private_folder(tmp_path / "a" / "b")
    durable.private_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir(mode=0o750)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "file").chmod(0o600)
    for path in (tmp_path / "open", tmp_path / "file"):
        with pytest.raises(ConfigError, match="chmod 700"):
            durable.private_folder(path)


def test_bytes_that_were_replaced_are_zeros(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write(path, b"secret")
    with path.open("rb") as kept:
        with durable.overwritten_after(path):
            durable.write(path, b"new")
        assert kept.read() == bytes(6)
    with durable.overwritten_after(tmp_path / "none"):
        durable.write(tmp_path / "none", b"first")
    assert (path.read_bytes(), (tmp_path / "none").read_bytes()) == (b"new", b"first")


@pytest.mark.parametrize("way", [durable.write, durable.create])
def test_h13_bytes_are_flushed_before_they_have_their_name_and_the_name_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path, bytes], None]
) -> None:
    path, real, flushed = tmp_path / "file", os.fsync, list[tuple[bool, bytes]]()

    def fsync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        seen = path.read_bytes() if path.exists() else b"" if folder else next(tmp_path.iterdir()).read_bytes()
        flushed.append((folder, seen))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    way(path, b"whole")
    assert flushed == [(False, b"whole"), (True, b"whole")]
