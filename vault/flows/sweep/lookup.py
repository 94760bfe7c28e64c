"""The rows by which identifiers find people: each finds somebody who says so, too. Reads tags only, opens nothing."""

from typing import Final
from uuid import UUID

from vault.flows.sweep.finding import Check, Finding
from vault.storage.session import Raw

BATCH: Final = 2000  # tags in memory at once

# An erasure takes the tags out a moment after the person.
_RANGE: Final = """
SELECT y.tag, y.subject_id, EXISTS (SELECT FROM identifier n WHERE n.subject_id = y.subject_id AND n.tag = y.tag)
    OR EXISTS (SELECT FROM erased e WHERE e.subject_id = y.subject_id)
FROM (SELECT tag, subject_id FROM identity WHERE tag > $1 ORDER BY tag LIMIT $2) y ORDER BY y.tag
"""


async def look_up(driver: Raw, after: bytes) -> tuple[list[Finding], bytes, int]:
    """The next tags: what does not agree, where to go on, and how many there were; none at the end."""
    rows = await driver.fetch(_RANGE, after, BATCH)
    wrong = {UUID(bytes=row[1].bytes) for row in rows if not row[2]}
    found = [Finding(Check.LOOKUP, subject) for subject in sorted(wrong)]
    return found, rows[-1][0] if rows else after, len(rows)
