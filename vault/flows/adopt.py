"""Takes over the rows of a database from before they had codes: once, when the key that vouches for them is made.

A key is made once (`vault.keys`), so nobody who empties a code later has it filled in again.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from vault.audit import store as audit
from vault.audit.entry import Entry, Tag
from vault.catalogue.load import Catalogue
from vault.clock import Clock
from vault.destinations import store as destinations
from vault.destinations.webhook import address_code
from vault.errors import NotFound
from vault.flows.tags import Pointers
from vault.ids import uuid7
from vault.keys import names
from vault.keys.keystore import KeyStore
from vault.rights import store as requests
from vault.rights.store import Transaction
from vault.sources import store as sources
from vault.staff import store as staff
from vault.storage.session import Database, Raw, raw


async def adopt(connection: Transaction, keystore: KeyStore, catalogue: Catalogue) -> None:
    """Requests, addresses of webhooks and waiting audit entries are believed as they stand, this once."""
    await audit.vouch_waiting(connection, await newest(keystore, names.JOURNAL))
    await requests.adopt(connection, await newest(keystore, names.REQUEST))
    for hook in await destinations.webhooks(connection):
        contract = catalogue.contracts_by_number.get(hook.destination)
        if contract is None:
            continue
        try:
            secret = await newest(keystore, names.webhook(contract.name))
        except NotFound:
            continue
        code = address_code(await newest(keystore, names.PSEUDONYM), secret, hook.destination, hook.url)
        await destinations.vouch_webhook(connection, hook, code)


IDENTITIES: Final = 10_000  # rows a statement
_SOME: Final = "SELECT tag, subject_id FROM identity WHERE tag > $1 ORDER BY tag LIMIT $2 FOR UPDATE"
_CODES: Final = """
UPDATE identity i SET code = n.code FROM unnest($1::bytea[], $2::bytea[]) AS n(tag, code) WHERE i.tag = n.tag
"""


async def adopt_rows(database: Database, keystore: KeyStore, clock: Clock) -> None:
    """Sources, tokens, staff, and whom identifiers find: vouched for as they stand, this once, and told of in the log.

    The key gets its name when all rows have their code. Until then it has a passing one, so that whoever starts next, after a
    crash or beside this one, goes on with the same key.
    """
    if not keystore.missing([names.ROWS]) or names.ROWS in keystore.lost():
        return
    now = clock.now()
    await asyncio.to_thread(keystore.ensure, [names.ADOPTING], now)
    key = await newest(keystore, names.ADOPTING)
    if keystore.missing([names.ROWS]):  # nobody finished meanwhile, so the passing key is the one that all go by
        async with database.begin() as connection:
            counts = {
                "sources": await sources.adopt(connection, key),
                "tokens": await destinations.adopt(connection, key),
                "staff": await staff.adopt(connection, key),
                "identifiers": await _adopt_identities(await raw(connection), Pointers(key)),
            }
            entry = Entry(
                entry_id=uuid7(now), at=now, tag=Tag.STORAGE_ROWS_VOUCHED, actor="vault", policy=0, detail=counts
            )
            await audit.append(connection, entry, await newest(keystore, names.JOURNAL))
        await asyncio.to_thread(keystore.add, names.ROWS, key, now)
    await asyncio.to_thread(keystore.destroy, names.ADOPTING)


async def _adopt_identities(driver: Raw, pointers: Pointers) -> int:
    count, last = 0, b""
    while rows := await driver.fetch(_SOME, last, IDENTITIES):
        await driver.execute(_CODES, [row[0] for row in rows], _codes(pointers, rows))
        count, last = count + len(rows), rows[-1][0]
    return count


def _codes(pointers: Pointers, rows: Sequence[Any]) -> list[bytes]:
    return [pointers.make(row[0], row[1].bytes) for row in rows]


async def newest(keystore: KeyStore, name: str) -> bytes:
    """The newest key of that name, whatever role this process has: who makes keys can open them. Raises `NotFound`."""
    return max((await asyncio.to_thread(keystore.held, name)).items())[1].key
