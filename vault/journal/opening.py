"""Opens the journal that the settings name: a folder, or a second PostgreSQL."""

from pathlib import Path

from vault.journal.file import FileJournal
from vault.journal.journal import Journal
from vault.journal.postgres import PostgresJournal
from vault.storage.aside import Whereabouts


def open_journal(
    place: Path | str, key: bytes, *, begin: bool = True, shut: bool = False, apart_from: Whereabouts | None = None
) -> Journal:
    """`place`: a folder, or the URL of a database, which must be another than `apart_from`.

    Raises what both raise. Blocks; the caller closes it.
    """
    if isinstance(place, Path):
        return FileJournal(place, key, begin=begin, shut=shut)
    return PostgresJournal(place, key, begin=begin, shut=shut, apart_from=apart_from)
