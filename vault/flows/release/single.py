"""A release of one profile, on record by one statement: what a lookup waits for is round trips and one flush.

The same rows and the same leaf as a page's (`flows.release.record`). Instead of the state row it holds the row of wraps,
which an erasure deletes: whoever erases waits until this is written, or was first, and then nothing is. Likewise it holds
what the destination holds, which a removal changes. On a server that is not the one of the start it records nothing (ADR 0143).
"""

from typing import Final

from vault.audit.entry import Tag
from vault.audit.store import waiting_code
from vault.disclosures.record import pack_objects
from vault.disclosures.store import Page, Row
from vault.flows.release.plan import Plan
from vault.flows.release.record import Overtaken, Sheet, entry_of
from vault.flows.vault import Vault
from vault.ids import random_bytes, uuid7
from vault.keys import names
from vault.storage.session import Raw

SALT_BYTES: Final = 16

_RECORD: Final = """
WITH there AS MATERIALIZED (
    SELECT subject_id FROM keys.subject_key
    WHERE subject_id = $1 AND (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint = $13 FOR KEY SHARE
), begun AS (
    INSERT INTO disclosure_state (subject_id, destination, fields, gone)
    SELECT subject_id, $2, $9, ''::bytea FROM there WHERE $9::bytea IS NOT NULL
    ON CONFLICT (subject_id, destination) DO NOTHING RETURNING subject_id
), same AS MATERIALIZED (
    SELECT subject_id FROM disclosure_state WHERE subject_id = (SELECT subject_id FROM there) AND destination = $2
        AND fields = $12 AND removed_number IS NULL FOR SHARE
), free AS MATERIALIZED (
    SELECT subject_id FROM begun UNION ALL SELECT subject_id FROM same
), kept AS (
    INSERT INTO disclosure (subject_id, destination, page, at, number, policy, salt, detail)
    SELECT subject_id, $2, $3, $4, $5, $6, $7, $8 FROM free
), leaf AS (
    INSERT INTO audit_in (entry_id, leaf, code) SELECT $3, $10, $11 FROM free
)
SELECT count(*) FROM free
"""


async def record_one(vault: Vault, connection: Raw, plan: Plan, sheet: Sheet, released: Tag) -> bool:
    """Durable when it answers True. False: there is more to record than one disclosure and the beginning of what is held.

    Raises `Overtaken`.
    """
    began = [one.after for one in sheet.turned]
    if len(sheet.left) != 1 or sheet.unreadable or any(one.before is not None for one in sheet.turned):
        return False
    (left,) = sheet.left
    page = Page(plan.contract.number, uuid7(sheet.at), sheet.at, vault.policy.number)
    row = Row(left.root, left.number, random_bytes(SALT_BYTES), left.detail)
    leaf = entry_of(plan, sheet, page, [row], released).leaf()
    code = waiting_code(vault.keyring.key(names.JOURNAL), page.page, leaf)
    fields = pack_objects(began[0].fields) if began else None
    holds = pack_objects(left.before.fields) if left.before is not None else None
    shared = (left.root, page.destination, page.page, page.at, left.number, page.policy, row.salt, left.detail)
    if not await connection.fetchval(_RECORD, *shared, fields, leaf, code, holds, vault.database.ground.started):
        raise Overtaken
    return True
