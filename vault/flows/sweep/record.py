"""Findings on record: each once in the audit log, and a row for as long as it is found, which health and figures count.

A row carries a code: one that nobody with the key wrote silences no finding. What is harmless is not recorded.
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec

from vault.audit.entry import Detail, Tag
from vault.clock import Micros
from vault.crypto.mac import mac, same_code
from vault.flows.sweep.finding import NUMBERS, Check, Finding
from vault.flows.sweep.people import FIRST
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.keys import names
from vault.storage.lease import SWEEP
from vault.storage.session import raw

LABEL: Final = "finding/1"
CAP: Final = 10_000  # findings counted; more are as bad
# Of these the person is not there, or is to go: no salt is kept with them.
_NOBODYS: Final = frozenset((Check.GONE, Check.ERASURE))

_KNOWN: Final = "SELECT subject_id, found, first_at, code FROM integrity_finding WHERE subject_id = ANY ($1::uuid[])"
_WRITE: Final = """
INSERT INTO integrity_finding (subject_id, found, count, first_at, seen_at, code) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (subject_id, found) DO UPDATE
    SET count = excluded.count, first_at = excluded.first_at, seen_at = excluded.seen_at, code = excluded.code
"""
_OVER: Final = "DELETE FROM integrity_finding WHERE seen_at <= $1"
_STANDING: Final = """
SELECT (SELECT count(*) FROM (SELECT FROM integrity_finding LIMIT $1) AS n), (SELECT position FROM lease WHERE name = $2)
"""


class Standing(msgspec.Struct, frozen=True):
    """How the state audit stands."""

    findings: int  # `CAP` at most
    swept_at: Micros | None  # when the sweep was last through; None before that


async def record(vault: Vault, findings: Iterable[Finding]) -> int:
    """Leaves an entry for each finding that is not on record yet; answers for how many."""
    wanted = {(one.subject or FIRST, one.check): one for one in findings if not one.harmless}
    if not wanted:
        return 0
    key, now, new = vault.keyring.key(names.STATE), vault.clock.now(), 0
    async with vault.database.begin() as connection:
        driver = await raw(connection)
        rows = await driver.fetch(_KNOWN, [subject for subject, _ in wanted])
        known = {(UUID(bytes=row[0].bytes), row[1]): (row[2], row[3]) for row in rows}
        for (subject, check), one in sorted(wanted.items()):
            first_at, code = known.get((subject, NUMBERS[check]), (now, b""))
            if not same_code(code, _code(key, subject, check, first_at)):
                first_at, new = now, new + 1
                detail: Detail = {"check": f"state:{check.value}", "entries": one.count}
                about = None if one.subject is None or check in _NOBODYS else one.subject
                await leave(vault, connection, Tag.INTEGRITY_CHECK_FAILED, "vault", detail, about)
            code = _code(key, subject, check, first_at)
            await driver.execute(_WRITE, subject, NUMBERS[check], one.count, first_at, now, code)
    return new


async def forget_older(vault: Vault, until: Micros) -> None:
    """What was last found by then is over: a whole round has not found it again."""
    async with vault.database.hot() as connection:
        await connection.execute(_OVER, until)


async def standing(vault: Vault) -> Standing:
    """What is found now."""
    async with vault.database.hot() as connection:
        row = await connection.fetchrow(_STANDING, CAP, SWEEP)
    ended = row[1] or 0  # one in the time to come was written by somebody else, and means nothing
    return Standing(row[0], Micros(ended) if 0 < ended <= vault.clock.now() else None)


def _code(key: bytes, subject: UUID, check: Check, first_at: int) -> bytes:
    return mac(key, LABEL, subject.bytes, bytes((NUMBERS[check],)), first_at.to_bytes(8, "big"))
