"""Step 1 of an erasure: the profile is closed to every reader and writer, all its members in one statement.

From its commit the gate of consent permits nothing for it, no writer attaches or merges to it, and the next page of every
destination that holds something says `remove`, reason `erased`.
"""

from typing import Final

import msgspec

from vault.audit.entry import Tag
from vault.errors import Unavailable
from vault.flows.honour.opened import profile_of
from vault.flows.honour.steps import officer_of, take
from vault.flows.people.read import Stored
from vault.flows.people.write import Fixed, Raced, Rows, write
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.keys import names
from vault.rights.request import Step
from vault.rights.store import Request
from vault.state.record import pack

ATTEMPTS: Final = 10  # each loss means that a writer of the same person came between; they end when the fence stands
_GROUP: Final = 0


async def fence(vault: Vault, request: Request) -> None:
    """Closes the profile of the request's subject. Raises `NotFound`, `Unreadable`, `Unavailable`."""
    assert request.subject_id is not None  # noqa: S101 - a request loses its subject two steps later
    for _ in range(ATTEMPTS):
        async with vault.database.snapshot() as connection:
            members = await profile_of(vault, connection, request.subject_id)
        if all(member.state.fenced for member in members) or await _close(vault, members):
            break
    else:
        raise Unavailable("The profile is being written to; try again.", code="retry")
    async with take(vault, request) as taking:
        await leave(
            vault,
            taking.connection,
            Tag.RIGHTS_PROFILE_FENCED,
            officer_of(request),
            {"request": str(request.request_id), "subjects": len(members)},
            members[0].state.subject,
        )
        await taking.move(Step.CASE)


async def _close(vault: Vault, members: list[Stored]) -> bool:
    """One statement that rests on every member's version. False: one of them moved on; read again."""
    key = vault.keyring.key(names.STATE)
    states = [member.state for member in members]
    rows = Rows.none()
    for state in states:
        owner = Fixed(_GROUP, state.subject.hex)
        closed = msgspec.structs.replace(state, fenced=True, version=state.version + 1)
        rows.want.append((owner, state.version))
        rows.updated.append((owner, closed.root, closed.version, pack(closed, key)))
    rows.changes.append((Fixed(_GROUP), states[0].subject))
    try:
        async with vault.database.hot() as connection:
            return not await write(connection, rows)
    except Raced:
        return False
