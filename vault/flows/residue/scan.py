"""One scan for one erasure: what it is known by, where that was looked for, and what was found.

`indexed` runs in the step that certifies, on every erasure; `everything` reads all rows and files and takes as long as that
takes: a command. Neither knows how an erasure deletes, so that what the eraser forgot is not forgotten here, too.
"""

import asyncio
from typing import Final
from uuid import UUID

from vault.clock import isoformat
from vault.crypto.keyservice import LATER
from vault.errors import NotFound, Unavailable
from vault.flows.residue import database, files
from vault.flows.residue.needles import CASE, Needles, Pattern, of_case, of_journal, with_pseudonyms
from vault.flows.residue.verdict import INDEX, WHOLE, Report
from vault.flows.vault import Vault
from vault.journal.narrowing import Erasure
from vault.keys import names
from vault.rights.casefile import open_case
from vault.storage.session import Raw

REST: Final = ("rows that no index leads to, and files", "`erasures scan` reads them")
_CASE: Final = "SELECT sealed FROM casefile WHERE request_id = $1"


async def indexed(vault: Vault, driver: Raw, request_id: UUID, *, waiting: bool) -> Report:
    """In the caller's transaction. Raises `NotFound` where neither a case file nor the journal knows the erasure."""
    needles = await _needles(vault, driver, request_id)
    looked = await database.by_index(driver, needles, waiting=waiting)
    return Report(
        how=INDEX,
        at=isoformat(vault.clock.now()),
        looked_for=needles.counted,
        looked_at=looked.at,
        found=tuple(looked.found),
        not_looked_at=(*looked.not_at, REST),
    )


async def everything(vault: Vault, request_id: UUID, *, waiting: bool) -> Report:
    """Every row and every file. Raises `NotFound` where neither a case file nor the journal knows the erasure."""
    async with vault.database.hot() as driver:
        needles = await _needles(vault, driver, request_id)
    needles = with_pseudonyms(needles, vault.catalogue, vault.keyring.key(names.PSEUDONYM))
    looked = await database.whole(vault.database, needles, waiting=waiting)
    pattern, case = Pattern(needles), needles.source == CASE
    read = await asyncio.to_thread(files.read_files, vault.settings, pattern, request_id, waiting=waiting, case=case)
    return Report(
        how=WHOLE,
        at=isoformat(vault.clock.now()),
        looked_for=needles.counted,
        looked_at={**looked.at, **read.at},
        found=(*looked.found, *read.found),
        not_looked_at=(*looked.not_at, *read.not_at),
    )


async def _needles(vault: Vault, driver: Raw, request_id: UUID) -> Needles:
    """From the case file; without one, from the journal."""
    sealed = await driver.fetchval(_CASE, request_id)
    if sealed is not None:
        try:
            key = await asyncio.to_thread(vault.keyring.key, names.case(request_id))
        except Unavailable as error:
            if error.reason in LATER:  # a key service that is away: nobody looks by less than there is
                raise
            # its key is destroyed first: a crash between the two leaves the row for a moment
            key = None
        if key is not None:
            return of_case(open_case(key, request_id, sealed))
    entry = await asyncio.to_thread(_entry, vault, request_id)
    if entry is None:
        raise NotFound("Neither a case file nor the journal knows this erasure.")
    return of_journal(entry)


def _entry(vault: Vault, request_id: UUID) -> Erasure | None:
    """The last entry of this erasure: one that was taken again has more than one."""
    found = None
    for entry in vault.journal.read():
        if isinstance(entry.narrowing, Erasure) and entry.narrowing.request_id == request_id:
            found = entry.narrowing
    return found
