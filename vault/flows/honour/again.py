"""An erasure that a database has lost, carried out again: the journal names the members, the person asked long ago.

Promises: whoever of the members is back loses their keys before anything is served, is told to recipients again, and what
law keeps is kept again. What their rows say or do not say stops nothing: where they do not agree, keys and all go.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from vault.catalogue.numbers import RIGHTS
from vault.errors import Conflict, NotFound, Unreadable
from vault.flows.graves import current, write_graves
from vault.flows.honour.advance import destroy_now
from vault.flows.honour.at_once import erase_at_once
from vault.flows.honour.erase import destroy_unread
from vault.flows.honour.intake import register
from vault.flows.honour.steps import JOURNAL, NOBODY
from vault.flows.vault import Vault
from vault.journal.narrowing import Erasure
from vault.keys import names
from vault.keys.compartments import parse_wraps
from vault.rights.request import State, Step, due
from vault.rights.store import Request

_WRAPS: Final = "SELECT wraps FROM keys.subject_key WHERE subject_id = $1"
_KEYED: Final = "SELECT subject_id FROM keys.subject_key WHERE subject_id = ANY ($1::uuid[]) ORDER BY subject_id"


class Again(msgspec.Struct, frozen=True):
    """What became of one erasure. A person whose rows do not agree has no request: there is nothing to answer from."""

    subjects: int  # that had keys
    requests: tuple[UUID, ...]  # new ones, each with a certificate of its own


async def erase_again(vault: Vault, erasure: Erasure) -> Again:
    """Destroys the keys of every member that has some. The worker deletes the rows behind it.

    Members that were joined after the backup are several people in it, each erased by a request of its own.
    """
    requests: list[UUID] = []
    async with vault.database.hot() as driver:
        await write_graves(driver, current(vault, erasure.tombstones))
    first = back = await _back(vault, erasure)
    while back:
        try:
            if await _opens(vault, back[0]):
                requests.append(await _as_asked(vault, back[0]))
            else:
                await _unread(vault, erasure, back[:1])
        except (NotFound, Unreadable, Conflict):
            await _unread(vault, erasure, back[:1])
        left = await _back(vault, erasure)
        if len(left) >= len(back):
            await _unread(vault, erasure, left[:1])
            left = await _back(vault, erasure)
        back = left
    return Again(len(first), tuple(dict.fromkeys(requests)))


async def _as_asked(vault: Vault, subject: UUID) -> UUID:
    """By the steps of an officer: with what law keeps, a case file and a certificate. Answers the request."""
    request = await erase_at_once(vault, JOURNAL, NOBODY, subject)
    if request is None:
        request = await register(vault, JOURNAL, NOBODY, subject, "erasure")
        await destroy_now(vault, request)
    return request


async def _opens(vault: Vault, subject: UUID) -> bool:
    """False where an epoch that its `rights` wraps name was destroyed: then nobody reads it, and nothing can be kept of it."""
    async with vault.database.hot() as driver:
        row = await driver.fetchval(_WRAPS, subject)
    there = set(vault.keystore.versions(names.epochs(RIGHTS)))
    return all(
        wrapped.epoch in there for one in parse_wraps(row or b"") for wrapped in one.wraps if wrapped.purpose == RIGHTS
    )


async def _unread(vault: Vault, erasure: Erasure, subjects: Sequence[UUID]) -> None:
    request = Request(
        erasure.request_id,
        "erasure",
        State.IN_PROGRESS,
        Step.ROWS,
        None,
        erasure.at,
        due(vault.clock.now()),
        None,
        NOBODY,
        {},
    )
    await destroy_unread(vault, request, subjects, erasure.tombstones)


async def _back(vault: Vault, erasure: Erasure) -> list[UUID]:
    async with vault.database.hot() as driver:
        rows = await driver.fetch(_KEYED, list(erasure.members))
    return [UUID(bytes=row[0].bytes) for row in rows]
