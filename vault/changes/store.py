"""Change marks and numbers: `mark` in the transaction that changes a profile, `page` for those who follow.

One row a profile: its latest change only. A mark gets its number from the sequencer once it is committed, so a page that
was read up to a number has seen every change with a lower one, whatever the order of commits.
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from vault.storage.lease import CHANGES
from vault.storage.session import Connection, raw

MARK: Final = "INSERT INTO change_in (subject_id) SELECT unnest($1::uuid[])"
_PAGE: Final = "SELECT number, subject_id FROM change WHERE number > $1 ORDER BY number LIMIT $2"
_HEAD: Final = "SELECT coalesce((SELECT position FROM lease WHERE name = $1), 0)"
_WAITING: Final = "SELECT count(*) FROM change_in"


async def mark(connection: Connection, subjects: Iterable[UUID]) -> None:
    """These profiles (their roots) changed. Call in the transaction that changes them. A subject may occur again."""
    driver = await raw(connection)
    await driver.execute(MARK, list(dict.fromkeys(subjects)))


async def page(connection: Connection, after: int, limit: int) -> list[tuple[int, UUID]]:
    """(number, root) of the profiles whose latest change has a number above `after`, in order of number."""
    driver = await raw(connection)
    return [(row["number"], row["subject_id"]) for row in await driver.fetch(_PAGE, after, limit)]


async def head(connection: Connection) -> int:
    """The last number given; 0 before the first."""
    driver = await raw(connection)
    return int(await driver.fetchval(_HEAD, CHANGES))


async def waiting(connection: Connection) -> int:
    """Committed marks that have no number yet: the feed's lag."""
    driver = await raw(connection)
    return int(await driver.fetchval(_WAITING))
