"""Makes a policy version the live one. The journal is told before the commit and again after it.

Promises: what is live is what the journal names, never what the table holds alone (threats E17). A crash between the two
words leaves an intent: then the version lives if its row is there with just that digest, and else its commit never came.
"""

import asyncio
from collections.abc import Iterable, Mapping

from vault.audit.entry import Detail, Entry, Tag
from vault.audit.store import append
from vault.canonical import canonical_json
from vault.clock import Micros
from vault.ids import uuid7
from vault.journal.journal import Journal
from vault.journal.narrowing import Narrowing, PolicyApplied, PolicyIntended
from vault.policy import version
from vault.policy.version import Named, Version
from vault.storage.session import Database


async def enact(
    database: Database, journal: Journal, files: Mapping[str, str], by: str, now: Micros, before: Version | None = None
) -> Version:
    """Applied, journaled and audited together. `before`: the version that was live; the same files again change nothing.

    Raises what `version.apply` raises, and `Unavailable` without a journal. If it fails after the commit, the version is
    live all the same, and the next start says so to the journal.
    """
    async with database.begin() as connection:
        applied = await version.apply(connection, files, by, now)
        if applied == before:
            return applied
        await asyncio.to_thread(journal.keep_policy, applied.digest, canonical_json(dict(files)))
        await journal.append([PolicyIntended(now, applied.number, applied.digest)])
        since: Detail = {} if before is None else {"before": before.number}
        entry = Entry(
            entry_id=uuid7(now),
            at=now,
            tag=Tag.POLICY_VERSION_APPLIED,
            actor="operator",
            policy=before.number if before is not None else applied.number,
            detail={"number": applied.number, "digest": applied.digest.hex(), **since},
        )
        await append(connection, entry, journal.key)
    await journal.append([PolicyApplied(now, applied.number, applied.digest)])
    return applied


def named(narrowings: Iterable[Narrowing]) -> Named:
    """What the journal says of policy versions."""
    applied: dict[int, bytes] = {}
    intended: dict[int, set[bytes]] = {}
    for one in narrowings:
        if isinstance(one, PolicyApplied):
            applied[one.number] = one.digest
        elif isinstance(one, PolicyIntended):
            intended.setdefault(one.number, set()).add(one.digest)
    return Named(applied, {number: frozenset(digests) for number, digests in intended.items()})
