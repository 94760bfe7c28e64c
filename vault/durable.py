"""Small private files that are whole or as they were: written beside, flushed to disk, then put in place.

Knows bytes and paths only. A folder is made closed to everyone but its owner; one that is found open is refused, never
repaired: what lay in it may have been read (design section 13, "never loosen").
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vault.errors import ConfigError, Invalid, Unreadable

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_OTHERS: Final = 0o077
FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def private_folder(folder: Path) -> None:
    """Makes `folder`, or checks that it is ours and closed to others. Raises `ConfigError`."""
    if not folder.exists():
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        sync_folder(folder.parent)
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & _OTHERS or status.st_uid != os.geteuid():
        raise ConfigError(f"{folder} must be a folder of this user that nobody else may enter; run `chmod 700` on it")


def read_private(path: Path, limit: int) -> bytes:
    """All bytes of a regular file that only its owner may touch.

    Raises FileNotFoundError; `ConfigError` if others may touch it or it is a link; `Unreadable` if it is over `limit` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError:
        raise ConfigError(f"{path} cannot be read; it must be a plain file of this user") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_mode & _OTHERS:
        os.close(descriptor)
        raise ConfigError(f"{path} must be a plain file that is closed to other users; run `chmod 600` on it")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Unreadable
    return data


def write(path: Path, data: bytes) -> None:
    """Puts `data` at `path`, readable by its owner. When this returns it is on disk; a crash leaves the old file or the new."""
    with _beside(path, data) as temporary:
        temporary.replace(path)
    sync_folder(path.parent)


def create(path: Path, data: bytes) -> None:
    """As `write`, for a file that must not exist yet. Raises FileExistsError."""
    with _beside(path, data) as temporary:
        os.link(temporary, path)
    sync_folder(path.parent)


@contextmanager
def _beside(path: Path, data: bytes) -> Iterator[Path]:
    """A flushed file with these bytes, in the same folder; it is gone afterwards, if it still has that name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with suppress(FileNotFoundError):
        temporary.unlink()  # left by a crash of a process with our number
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def overwritten_after(path: Path) -> Iterator[None]:
    """Writes zeros over the bytes that are at `path` now, once the block has replaced or unlinked them. May find none.

    A courtesy: file systems that copy on write and disks that spread wear keep old blocks.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield
        return
    with os.fdopen(descriptor, "wb") as file:  # by descriptor: nothing is cut off
        yield
        file.write(bytes(os.fstat(file.fileno()).st_size))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all processes that ask for the lock of this file, which is made if need be."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # the lock goes with it


def sync_folder(folder: Path) -> None:
    """Flushes the names in `folder` to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(error: OSError) -> Invalid:
    """What a person is told whose backup could not be written: a full disk is not a wrong name."""
    if error.errno in FULL:
        hint = "The disk is full there, or a limit is reached: make room, or name another disk. Nothing of it was kept."
    else:
        hint = "Name a new file, in a folder of yours."
    return Invalid(hint, code="unwritable_file")
