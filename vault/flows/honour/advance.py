"""Takes requests on, step by step, for the door that opened them and for the worker. Each step is taken once."""

from typing import Final
from uuid import UUID

from vault.clock import HOUR, SECOND
from vault.errors import Conflict, NotFound, Unavailable, Unreadable, VaultError
from vault.flows.accuse import accuse
from vault.flows.honour import access, case, certify, erase, fence, keep
from vault.flows.honour.steps import Taken, read
from vault.flows.vault import Vault
from vault.keys import names
from vault.rights import store
from vault.rights.request import Step

BATCH: Final = 100  # requests a query
STEPS: Final = {
    Step.GATHER: access.gather,
    Step.FENCE: fence.fence,
    Step.CASE: case.open_case,
    Step.KEEP: keep.keep,
    Step.DESTROY: erase.destroy,
    Step.ROWS: erase.delete_rows,
    Step.CERTIFY: certify.certify,
}
UNTIL_DESTROYED: Final = frozenset({Step.FENCE, Step.CASE, Step.KEEP, Step.DESTROY})
FIRST_WAIT: Final = SECOND  # after a failure; doubled with each
LONGEST_WAIT: Final = HOUR
ATTEMPTS: Final = 20  # a step that others keep taking from us is theirs


async def destroy_now(vault: Vault, request_id: UUID) -> None:
    """Takes an erasure up to and including the destruction of its keys: the door answers after that."""
    for _ in range(ATTEMPTS):
        request = await read(vault, request_id)
        if request.step not in UNTIL_DESTROYED:
            return
        try:
            await STEPS[request.step](vault, request)
        except (Taken, NotFound, Conflict) as error:
            # Somebody else took the step, and perhaps the person, meanwhile: see where the request stands now. What a
            # rotation or a lock took away is done again.
            again = isinstance(error, Conflict) and error.reason == "retry"
            if not again and (await read(vault, request_id)).step == request.step:
                raise
    raise Unavailable("The erasure is being carried out; ask for its state.", code="retry")


async def advance(vault: Vault, request_id: UUID) -> bool:
    """Takes a request as far as it goes now. True if anything moved."""
    moved = False
    for _ in range(ATTEMPTS):
        request = await read(vault, request_id)
        try:
            if request.step in STEPS:
                await STEPS[request.step](vault, request)
            elif request.step == Step.OFFER:
                return await access.expire(vault, request) or moved
            elif request.step == Step.ANSWERS:
                return await certify.gather_answers(vault, request) or moved
            else:
                return moved
        except Taken:
            return moved
        moved = True
    return moved


async def advance_all(vault: Vault) -> int:
    """Every request that has steps left, and whatever was kept at an erasure and is over; answers how many moved.

    One that fails does not hold up the others: it is logged by its code and tried again at the next round.
    """
    moved = 0
    after: UUID | None = None
    while True:
        async with vault.database.begin() as connection:
            batch = await store.ready(connection, vault.clock.now(), after, BATCH)
        if not batch:
            return moved + await keep.end_kept(vault)
        for request_id in batch:
            moved += await _attempt(vault, request_id)
        after = batch[-1]


async def _attempt(vault: Vault, request_id: UUID) -> bool:
    """Takes one request on, unless it failed a moment ago."""
    try:
        if vault.clock.now() < (await read(vault, request_id)).detail.get("retry_at", 0):
            return False
    except Unreadable:  # forged, and named in the audit log: it holds up nobody, and nothing is written to it
        return False
    try:
        return await advance(vault, request_id)
    except VaultError as error:
        vault.log.warning("request.failed", request=str(request_id), code=error.reason)
        about = await _postpone(vault, request_id, error.reason)
        if about is not None and isinstance(error, Unreadable):
            await accuse(vault, "vault", about)
        return False


async def _postpone(vault: Vault, request_id: UUID, code: str) -> UUID | None:
    """Notes why a request stands still, for whoever reads it, and when it is tried again: later each time.

    Answers whom it is about, the first time that it fails so.
    """
    async with vault.database.begin() as connection:
        key = vault.keyring.key(names.REQUEST)
        request = await store.get(connection, request_id, key, lock=True)
        if request is None:
            return None
        failures = int(request.detail.get("failures", 0)) + 1
        wait = min(FIRST_WAIT << min(failures - 1, 20), LONGEST_WAIT)
        detail = {"failures": failures, "failed": code, "retry_at": vault.clock.now() + wait}
        await store.move(connection, request, request.step, key, detail=detail)
    return None if request.detail.get("failed") == code else request.subject_id
