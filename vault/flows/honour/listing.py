"""The list of requests, as who runs the vault sees it: ids, states and dates, nobody's person.

Promises: what is asked for is chosen from rows that were vouched for, not by the database, so that nobody who writes there
takes a request off the list by its state; a row that nobody here wrote is always on it, as such, and audited.
"""

from typing import Final
from uuid import UUID

import msgspec

from vault.flows.honour.steps import accuse
from vault.flows.vault import Vault
from vault.keys import names
from vault.rights import store
from vault.rights.request import OPEN, RequestType
from vault.rights.store import Request

CHUNK: Final = 500  # rows a query


class Listed(msgspec.Struct, frozen=True):
    """One page. A request is None where its row is not to be believed."""

    requests: list[tuple[UUID, Request | None]]
    following: UUID | None  # go on behind this one; None at the end


async def list_requests(
    vault: Vault, *, after: UUID | None, limit: int, kind: RequestType | None = None, unfinished: bool = False
) -> Listed:
    """At most `limit` requests after the id `after`, in the order of their making."""
    key = vault.keyring.key(names.REQUEST)
    found: list[tuple[UUID, Request | None]] = []
    while True:
        async with vault.database.begin() as connection:
            rows = await store.after(connection, after, CHUNK, key)
        for request_id, one in rows:
            if one is not None and ((unfinished and one.state not in OPEN) or kind not in (None, one.type)):
                continue
            if len(found) == limit:
                return Listed(found, found[-1][0])
            if one is None:
                await accuse(vault, request_id)
            found.append((request_id, one))
        if len(rows) < CHUNK:
            return Listed(found, None)
        after = rows[-1][0]
