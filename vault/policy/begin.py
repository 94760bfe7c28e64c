"""A policies folder to begin with: a small one with comments, or a copy of the example shop's. And the schemas beside it.

Promises: writes into an empty or new folder only; what it wrote passes `policy check` and `policy test`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vault.errors import Conflict, Invalid
from vault.policy.schemas import FOLDER, SUFFIX, schemas

STARTER: Final = Path(__file__).parent / "starter"


def begin(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Write the files of a policies folder, and the schemas; answers the paths within it.

    Raises `Conflict` (code `not_empty`) for a folder that holds anything, `Invalid` where it cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Conflict(f"{folder} holds something already; name a folder that is new or empty.", code="not_empty")
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from None
    return [*files, *(f"{FOLDER}/{name}" for name in write_schemas(folder / FOLDER))]


def write_schemas(folder: Path) -> list[str]:
    """Write every schema into a folder, over older ones; answers the names of the files. Raises `Invalid`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        texts = schema_files()
        for name, text in texts.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from None
    return list(texts)


def schema_files() -> dict[str, str]:
    """The schemas as they stand in files: name to text."""
    return {f"{name}{SUFFIX}": json.dumps(one, indent=1) + "\n" for name, one in schemas().items()}


def _unwritable(folder: Path, error: OSError) -> Invalid:
    return Invalid(f"{folder} cannot be written: {(error.strerror or 'no answer').lower()}.", code="unwritable_folder")
