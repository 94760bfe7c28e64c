"""The vault's own files: names and content of whatever lies in its folders, beside the database server's data.

Those of the server (tables, write-ahead log, temporary files) hold dead rows until they are vacuumed and overwritten:
`make forensics` searches them, and docs/how-to/prove-an-erasure.md says how they become empty.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from vault.config import Settings
from vault.flows.residue.needles import Pattern
from vault.flows.residue.verdict import Found, judge
from vault.keys import names
from vault.storage import cluster

BLOCK: Final = 1 << 20
SERVERS: Final = "the database server's own files: dead rows and its log of writes; `make forensics` searches such"
ELSEWHERE: Final = "the database server runs elsewhere; its files and its log are not in reach of this command"
APART: Final = "the journal lies in a database of its own, whose files are not in reach of this command"


class Read(NamedTuple):
    """What was found in files, and how much was looked at."""

    found: list[Found]
    at: dict[str, int]
    not_at: list[tuple[str, str]]


def read_files(settings: Settings, pattern: Pattern, request_id: UUID, *, waiting: bool, case: bool) -> Read:
    """Every file of the data folder, the key store and the journal. `case`: the case file lives, and so may its key."""
    server = cluster.found(settings.data_dir)
    folders = {"data folder": settings.data_dir, "key store": settings.keyring}
    folders |= {} if settings.journal is None else {"journal": settings.journal}
    found: dict[str, int] = {}
    seen: set[Path] = set()
    size = 0
    for kind, folder in folders.items():
        for path in _files(folder, leaving_out={server.data} | {f for f in folders.values() if f != folder}):
            if path in seen:
                continue
            seen.add(path)
            hit, read = _look(path, pattern)
            size += read
            if hit or pattern.found(str(path.relative_to(folder)).encode()):
                found[kind] = found.get(kind, 0) + 1
    if settings.embedded and server.log.is_file():
        hit, read = _look(server.log, pattern)
        size += read
        found |= {"log of the database server": 1} if hit else {}
    key = settings.keyring / f"{names.case(request_id)}.key"
    if not case and key.exists():
        found["key of a case that is closed"] = 1
    verdicts = [judge(kind, count, waiting=waiting) for kind, count in found.items()]
    left_out = [("database server", SERVERS if settings.embedded else ELSEWHERE)]
    left_out += [("journal", APART)] if settings.journal is None else []
    return Read(verdicts, {"files": len(seen), "file_bytes": size}, left_out)


def _files(folder: Path, *, leaving_out: Iterable[Path]) -> Iterator[Path]:
    """The files below a folder, but for those of other folders that lie in it. Nothing is followed out of it."""
    closed = set(leaving_out)
    waiting = [folder]
    while waiting:
        try:
            inside = sorted(waiting.pop().iterdir())
        except FileNotFoundError:  # none was made, or it is gone meanwhile
            continue
        for path in inside:
            if path in closed or path.is_symlink():
                continue
            if path.is_dir():
                waiting.append(path)
            elif path.is_file():
                yield path


def _look(path: Path, pattern: Pattern) -> tuple[bool, int]:
    """Is any needle in the file? And its size."""
    hit, size, tail = False, 0, b""
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                size += len(block)
                hit = hit or pattern.found(tail + block)
                tail = block[-pattern.longest :]
    except FileNotFoundError:  # gone meanwhile
        pass
    return hit, size
