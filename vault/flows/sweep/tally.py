"""The log against what is kept with people: each leaf that speaks of somebody is explained by a salt, or by an erasure.

Exact, because an erasure's entry says how many salts and disclosure records went (`Tag.AUDIT_SALTS_FORGOTTEN`). Who puts a
person back, or deletes rows of theirs, leaves leaves behind that nobody explains. Counted in one snapshot, on the server.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

from vault.audit.entry import Entry, Tag, parse
from vault.clock import Micros
from vault.disclosures.store import Page, Row
from vault.errors import Unreadable
from vault.flows.release.record import row_leaves
from vault.flows.sweep.finding import Check, Finding
from vault.merkle import root_of
from vault.storage.session import Raw

BATCH: Final = 2000  # leaves, or disclosure rows, in memory at once
_LEAVES: Final = "(SELECT entry_id, leaf FROM audit UNION ALL SELECT entry_id, leaf FROM audit_in)"
# A leaf is checked JSON without escapes: a quoted name stands in it only where it is meant.
_ABOUT: Final = f'SELECT count(*) FROM {_LEAVES} a WHERE position(\'"subject":"\'::bytea IN leaf) > 0'  # noqa: S608 (constants)
_OF_TAG: Final = f"""
SELECT entry_id, leaf FROM {_LEAVES} a WHERE entry_id > $1 AND (
    position('"tag":"{Tag.AUDIT_SALTS_FORGOTTEN}"'::bytea IN leaf) > 0
    OR position('"tag":"{Tag.INTEGRITY_CHECK_FAILED}"'::bytea IN leaf) > 0
    OR position('"tag":"{Tag.DISCLOSURE_PAGE_RELEASED}"'::bytea IN leaf) > 0
    OR position('"tag":"{Tag.DISCLOSURE_LOOKUP_RELEASED}"'::bytea IN leaf) > 0
) ORDER BY entry_id LIMIT $2
"""  # noqa: S608 (constants)
# No index leads from a page to its rows: the server sorts them once, and hands them out as they are asked for.
_DECLARE: Final = """
DECLARE disclosed NO SCROLL CURSOR FOR
SELECT page, subject_id, destination, number, policy, salt, detail FROM disclosure ORDER BY page, subject_id
"""
_FETCH: Final = f"FETCH {BATCH} FROM disclosed"
_SAID: Final = f"SELECT entry_id, leaf FROM {_LEAVES} a WHERE entry_id = ANY ($1::uuid[])"  # noqa: S608 (constants)
_FIRST: Final = UUID(int=0)


async def tally(driver: Raw) -> list[Finding]:
    """What the counts do not explain. `driver`: a snapshot."""
    leaves = int(await driver.fetchval(_ABOUT))
    salts = int(await driver.fetchval("SELECT count(*) FROM audit_salt"))
    rows = int(await driver.fetchval("SELECT count(*) FROM disclosure"))
    sums = _Sums()
    async for entry in _entries(driver):
        sums.take(entry)
    found = []
    if unexplained := sums.unfit + abs(leaves + sums.listed - salts - sums.salts_gone):
        found.append(Finding(Check.LEAVES, count=unexplained))
    if unexplained := sums.disclosed - rows - sums.rows_gone:
        found.append(Finding(Check.DISCLOSURES, count=abs(unexplained)))
    elif edited := await _edited(driver):
        found.append(Finding(Check.DISCLOSURES, count=edited))
    return found


async def _edited(driver: Raw) -> int:
    """Pages whose rows are all there and are not those under the root of the page's entry, or that have no entry: how many.

    Where an erasure took rows of a page nothing is left to compare the others with but their number.
    """
    await driver.execute(_DECLARE)
    bad, group = 0, list[Any]()
    while rows := await driver.fetch(_FETCH):
        for row in rows:
            if group and group[-1][0] != row[0]:
                bad += await _differs(driver, group)
                group = []
            group.append(row)
    bad += await _differs(driver, group) if group else 0
    await driver.execute("CLOSE disclosed")
    return bad


async def _differs(driver: Raw, group: Sequence[Any]) -> bool:
    """`group`: the rows of one page, in order of subject."""
    page = UUID(bytes=group[0][0].bytes)
    said = await driver.fetch(_SAID, [page])
    try:
        detail: Any = parse(said[0][1]).detail if said else {}
    except Unreadable:
        return True
    disclosed = _number(detail, "disclosed") or 0
    if disclosed != len(group):
        return disclosed < len(group)
    shared = Page(group[0][2], page, Micros(0), group[0][4])
    rows = [Row(UUID(bytes=row[1].bytes), row[3], row[5], row[6]) for row in group]
    same = all(row[2] == shared.destination and row[4] == shared.policy for row in group)
    return not same or root_of(row_leaves(shared, rows)).hex() != detail.get("rows")


class _Sums:
    """What entries account for. One that does not say what its kind says is counted, and stops nothing.

    Else whoever may write to the log, a taken process for one, would silence the audit of the state for good.
    """

    def __init__(self) -> None:
        self.listed = self.salts_gone = self.disclosed = self.rows_gone = self.unfit = 0

    def take(self, entry: Entry) -> None:
        detail: Any = entry.detail
        if entry.tag is Tag.AUDIT_SALTS_FORGOTTEN:
            self.salts_gone += self._said(detail, "salts")
            self.rows_gone += self._said(detail, "disclosures")
        elif entry.tag is Tag.INTEGRITY_CHECK_FAILED:
            listed = detail.get("subjects", [])
            self.listed += len(listed) if isinstance(listed, list) else self._said({}, "subjects")
        else:
            self.disclosed += self._said(detail, "disclosed")

    def _said(self, detail: Any, name: str) -> int:
        number = _number(detail, name)
        self.unfit += number is None
        return number or 0


def _number(detail: Any, name: str) -> int | None:
    """What an entry counts under that name; None if it is no count."""
    said = detail.get(name)
    return said if isinstance(said, int) and said >= 0 else None


async def _entries(driver: Raw) -> AsyncIterator[Entry]:
    after = _FIRST
    while rows := await driver.fetch(_OF_TAG, after, BATCH):
        after = UUID(bytes=rows[-1][0].bytes)
        for _, leaf in rows:
            try:
                entry = parse(leaf)
            except Unreadable:
                continue  # `audit verify` names it
            yield entry
