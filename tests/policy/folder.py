"""The shipped policies folder, and copies of it with one thing changed."""

import functools
from pathlib import Path

from vault.catalogue.load import Catalogue, load, read_folder

FOLDER = Path(__file__).parents[2] / "policies"


@functools.cache
def _read() -> dict[str, str]:
    return read_folder(FOLDER)


def shipped() -> dict[str, str]:
    """The files that the project ships."""
    return dict(_read())


@functools.cache
def shop() -> Catalogue:
    """Their catalogue."""
    return load(shipped())


def edited(path: str, old: str, new: str) -> dict[str, str]:
    """The shipped files with one text replaced by another, once. The old text must be there."""
    files = shipped()
    assert old in files[path], f"{path} does not hold {old!r}"
    files[path] = files[path].replace(old, new, 1)
    return files


def extended(path: str, more: str) -> dict[str, str]:
    """The shipped files with lines added to one of them."""
    files = shipped()
    files[path] += "\n" + more
    return files


def line_of(files: dict[str, str], path: str, text: str) -> int:
    """The number of the first line that holds the text."""
    return next(number for number, line in enumerate(files[path].splitlines(), start=1) if text in line)
