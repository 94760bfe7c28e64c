"""A vault after a storm against what its clients know: nothing acknowledged lost, no effect twice, nobody erased back."""

import asyncio
import contextlib
import random
import time
import traceback
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from tests.faults import oracle
from tests.faults.client import PUSHED, Told
from tests.faults.recipient import taken
from tests.faults.street import PATIENCE, Street
from tests.faults.townsfolk import SHARED, Model, Person
from vault.bootstrap import open_vault
from vault.config import load
from vault.consent.ledger import How
from vault.errors import Conflict
from vault.flows.people.draft import SubjectDraft
from vault.flows.retag import PENDING, renew_tags
from vault.flows.sweep.audit import audit_state
from vault.flows.vault import Vault
from vault.worker import run

ANALYTICS: Final = "warehouse"
SCANNED: Final = 12  # erasures whose residue is looked for at the end: each reads the whole vault
Json = dict[str, Any]


class Still(oracle.Reader):
    """Reads everyone once: while it looks, nobody writes."""

    _known: dict[UUID, SubjectDraft] | None = None

    async def drafts(self) -> dict[UUID, SubjectDraft]:
        """The living."""
        if self._known is None:
            self._known = await super().drafts()
        return self._known


def judge(town: Street, model: Model) -> None:
    try:
        asyncio.run(judged(town, model))
    except Exception:
        model.found(traceback.format_exc(limit=-12))


async def judged(town: Street, model: Model) -> None:
    """Everything read again, and the people compared with the model. Nobody writes meanwhile."""
    async with open_vault(load(environ=town.house.environ)) as vault:
        await _ended(vault)
        await _quiet(vault)
        await _ended(vault)
        pushed = [Told(f"feed {PUSHED}", 200, lines) for _, lines in taken(town.folder, "storm")]
        await oracle.check(vault, model.told + pushed)
        for fault in oracle.repeated(taken(town.folder, "storm")):
            model.found(fault)
        reader = Still(vault, {})
        shown = {line["id"]: line for line in await reader.feed(ANALYTICS)}
        mailed = {line["traits"]["email"] for line in await reader.feed("email-tool") if "email" in line["traits"]}
        for user, person in model.people.items():
            with _accusing(model, user):
                await _compared(vault, reader, user, person, shown, mailed)
        state = await audit_state(vault)
        if not state.good:
            model.found(f"the state audit found {state.told()}")
        model.checked = {"people": state.people, "harmless": len(state.findings)}


def turned_over(town: Street, model: Model, drawn: random.Random) -> Json:
    """By the commands that an operator has: all keys turned, the state audited, a sample of the erased looked for."""
    rotated = town.house.ask("keys", "rotate", "--all")
    audited = town.house.ask("audit", "verify", "--state")
    if not audited["ok"]:
        model.found(f"audit verify --state: {audited}")
    requests = asyncio.run(_erasures(town))
    sample = drawn.sample(requests, min(SCANNED, len(requests)))
    for request in sample:
        scanned = town.house.run("erasures", "scan", request, "--json", check=False)
        if scanned.returncode:
            model.found(f"erasures scan: {scanned.stdout} {scanned.stderr[-1000:]}")
    judge(town, model)  # every record once more, under the new keys
    return {"rotated": rotated, "state": audited["state"], "erasures": len(requests), "scanned": len(sample)}


async def _erasures(town: Street) -> list[str]:
    async with open_vault(load(environ=town.house.environ)) as vault, vault.database.hot() as connection:
        rows = await connection.fetch(
            "SELECT DISTINCT request_id FROM erased JOIN request USING (request_id) WHERE type = 'erasure' ORDER BY 1"
        )
    return [str(row[0]) for row in rows]


async def _ended(vault: Vault) -> None:
    """What a killed `keys rotate index-KIND` had begun is ended by the same command: until then nobody may be able to write.

    While rows of an erasure are being deleted, it had not come as far as its commit, and nobody waits for it.
    """
    for name in vault.keystore.names():
        if name.startswith(PENDING):
            try:
                await renew_tags(vault, name.removeprefix(PENDING))
            except Conflict as error:
                if error.reason != "erasure_under_way":
                    raise


async def _quiet(vault: Vault) -> None:
    """What waits for a worker is done: leases of the killed are over in 15 seconds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        await run(vault, once=True)
        async with vault.database.hot() as connection:
            open_ = await connection.fetchval(
                "SELECT count(*) FROM request WHERE step IN ('fence', 'case', 'keep', 'destroy', 'rows', 'certify', 'gather')"
            )
        if not open_:
            return
        assert time.monotonic() < deadline, f"{open_} requests are stuck"
        await asyncio.sleep(0.5)


@contextlib.contextmanager
def _accusing(model: Model, user: str) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        model.found(f"{user}: {error}")


async def _compared(
    vault: Vault, reader: oracle.Reader, user: str, person: Person, shown: dict[str, Json], mailed: set[str]
) -> None:
    subject = await reader.subject(user)
    if person.erased:
        assert subject is None, "erased, and found"
        assert f"{user}@planted.example" not in mailed, "erased, and in a feed"
        return
    if not (person.orders or person.acts) and subject is None:
        assert user in SHARED, "lost"
        return
    assert subject is not None, "lost"
    draft = await reader.draft(user)
    root = draft.state.root
    members = [s for s, one in (await reader.drafts()).items() if one.state.root == root]
    events = await reader.rows(
        "SELECT count(DISTINCT event_key) FROM event WHERE subject_id = ANY ($1::uuid[])", members
    )
    assert events[0][0] == len(person.orders) + person.views, (
        f"{events[0][0]} events instead of {len(person.orders) + person.views}"
    )
    acts = [one for one in await reader.ledger(subject) if one.how is How.API]
    assert len(acts) == person.acts, f"{len(acts)} acts in the ledger instead of {person.acts}"
    stands = await reader.stands(user)
    for purpose, said in person.stands.items():  # what was refused already is denied once more, not withdrawn
        agrees = stands[purpose] == "granted" if said == "granted" else stands[purpose] in {"withdrawn", "denied"}
        assert agrees, f"{purpose} is {stands[purpose]} and was {said} last"
    if person.device is not None:
        device = await reader.draft(person.device, "anonymous_id")
        assert device.state.root == root, "its device is not linked"
    plan = vault.plan(ANALYTICS)
    assert plan is not None
    traits = shown.get(plan.id_of(root), {"traits": {}})["traits"]
    assert traits.get("order_count", 0) == len(person.orders), (
        f"{traits.get('order_count')} orders instead of {len(person.orders)}"
    )
    if person.orders:
        total = Decimal(str(traits["lifetime_value"]))
        assert total == sum(person.orders.values()), f"{total} instead of {sum(person.orders.values())}"
