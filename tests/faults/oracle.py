"""What must hold after every crash, and what a finished journey leaves: read from the vault anew, as whoever restarts it would.

`check` raises `AssertionError` or the vault's own error on the first thing that does not hold. `facts` is what two runs
of one journey must agree on, whatever happened on the way; random ids, times and pseudonyms are left out of it.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from tests.faults.client import Client, Told
from tests.faults.recipient import holds
from tests.worlds import World
from vault.audit.entry import Tag
from vault.consent.ledger import REFUSALS, Choice, Decision, How
from vault.disclosures.store import history
from vault.flows.browse import audit_verify
from vault.flows.people.change import tools_of
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.read import ledgers, profiles
from vault.flows.vault import Vault
from vault.journal.narrowing import Erasure, Objection, PolicyApplied, Refusal
from vault.rights import certificate

# Each of these is written in the commit of the effect that it tells of, so that an effect that came twice shows.
ONCE: Final = (
    Tag.CONSENT_CHOICE_RECORDED,
    Tag.RIGHTS_REQUEST_OPENED,
    Tag.RIGHTS_KEYS_DESTROYED,
    Tag.RIGHTS_ROWS_DELETED,
    Tag.RIGHTS_CERTIFICATE_ISSUED,
    Tag.RIGHTS_ARCHIVE_FETCHED,
    Tag.POLICY_VERSION_APPLIED,
)
FAILED: Final = Tag.INTEGRITY_CHECK_FAILED


class Reader(World):
    """Reads everything that is stored of everyone again. Whoever is erased has nothing that could be opened."""

    async def check(self) -> None:
        """`World.check` for the living; the erased have no key, whatever rows are still to go."""
        keyed = await self.rows("SELECT 1 FROM keys.subject_key WHERE subject_id IN (SELECT subject_id FROM erased)")
        assert not keyed, "an erased person's keys are there"
        await super().check()

    async def drafts(self) -> dict[UUID, SubjectDraft]:
        """The living only."""
        erased = {UUID(bytes=row[0].bytes) for row in await self.rows("SELECT subject_id FROM erased")}
        return {subject: draft for subject, draft in (await super().drafts()).items() if subject not in erased}


async def check(vault: Vault, acknowledged: list[Told]) -> None:
    """Nothing acknowledged lost, nothing erased readable, no disclosure missing, log and journal whole, every record opens."""
    reader = Reader(vault, {})
    await reader.check()
    vault.journal.verify()
    vault.keyring.open()
    assert not await reader.audited(FAILED), "rows did not agree with their state"
    report = await audit_verify(vault)
    assert report["ok"], f"audit log: {report['problem']}"
    await _journaled(vault, reader)
    await _disclosed(vault, acknowledged)
    await _erased(vault, reader, acknowledged)


async def _erased(vault: Vault, reader: Reader, acknowledged: list[Told]) -> None:
    """Once an erasure is answered, the person's identifiers find nobody and their keys are gone."""
    for one in acknowledged:
        if one.name == "open erasure" and one.status == 202:
            rows = await reader.rows("SELECT subject_id FROM erased WHERE request_id = $1", UUID(one.body["request"]))
            assert rows, "an erasure was answered and nobody is erased"
    assert await reader.count("tombstone") or not await reader.count("erased")


async def _journaled(vault: Vault, reader: Reader) -> None:
    """What narrows stands outside the database before it stands in it."""
    refused: dict[UUID, int] = {}
    objected: dict[UUID, int] = {}
    erased: set[UUID] = set()
    policies: set[int] = set()
    for entry in vault.journal.read():
        match entry.narrowing:
            case Refusal(subject=subject, purposes=purposes):
                refused[subject] = refused.get(subject, 0) | purposes
            case Objection(subject=subject, purposes=purposes):
                objected[subject] = objected.get(subject, 0) | purposes
            case Erasure(members=members):
                erased |= set(members)
            case PolicyApplied(number=number):
                policies.add(number)
            case _:
                pass
    for subject, draft in (await reader.drafts()).items():
        assert not draft.state.refused & ~refused.get(subject, 0), "a refusal is not in the journal"
        assert not draft.state.objected & ~objected.get(subject, 0), "an objection is not in the journal"
    assert {UUID(bytes=row[0].bytes) for row in await reader.rows("SELECT subject_id FROM erased")} <= erased
    assert {row[0] for row in await reader.rows("SELECT number FROM policy_version")} <= policies


async def _disclosed(vault: Vault, acknowledged: list[Told]) -> None:
    """For every line that left: a record with its change number and all of its fields, unless the person was erased since."""
    left: dict[tuple[str, UUID], list[dict[str, Any]]] = {}
    for one in acknowledged:
        if one.name.startswith("feed "):
            name = one.name.removeprefix("feed ")
            plan = vault.plan(name)
            assert plan is not None
            for line in one.body:
                if line.get("op") == "upsert":
                    root = plan.root_of(line["id"])
                    assert root is not None
                    left.setdefault((name, root), []).append(line)
    async with vault.database.hot() as connection:
        rows = await connection.fetch("SELECT subject_id FROM erased")
        erased = {UUID(bytes=row[0].bytes) for row in rows}
    async with vault.database.begin() as transaction:
        records = await history(transaction, sorted({root for _, root in left} - erased))
    on_record: dict[tuple[int, UUID, int], set[int]] = {}
    for record in records:
        fields = {number for one in record.released for number, _ in one.items}
        on_record.setdefault((record.destination, record.subject_id, record.number), set()).update(fields)
    for (name, root), lines in left.items():
        if root in erased:
            continue
        number = vault.catalogue.contracts[name].number
        for line in lines:
            fields = on_record.get((number, root, line["version"]))
            assert fields is not None, f"a line left to {name} and no disclosure is on record"
            assert _fields_of(vault, line) <= fields, f"fields left to {name} that no disclosure names"


def _fields_of(vault: Vault, line: dict[str, Any]) -> set[int]:
    objects = vault.catalogue.rule_objects
    named = [f"trait:{name}" for name in line["traits"]]
    named += [f"identifier:{name}" for name in line["identifiers"]]
    named += [f"audience:{name}" for name in line["audiences"]]
    return {objects[name] for name in named}


# --- what two runs must agree on --------------------------------------------------------------------------------------


async def facts(client: Client) -> dict[str, Any]:
    """The effects, as plain values."""
    vault = client.vault
    reader = Reader(vault, {})
    tables = ("subject", "event", "ledger", "identity", "identifier", "link", "dedup", "tombstone", "erased")
    tables += ("request", "archive", "casefile", "certificate", "policy_version", "compartment", "keys.subject_key")
    found: dict[str, Any] = {name: await reader.count(name) for name in tables}
    found["events"] = (await reader.rows("SELECT count(DISTINCT event_key) FROM event"))[0][0]
    found["ledgers"], entries, leaves = await _ledgers(vault, reader)
    found["ledger"] -= entries
    found["feeds"] = await reader.feeds()
    found["audited"] = {str(tag): len(await reader.audited(tag)) for tag in ONCE}
    found["audited"][str(Tag.CONSENT_CHOICE_RECORDED)] -= leaves
    found["held"] = sorted(
        json.dumps([row[0], bytes(row[1]).hex(), row[2] is None, row[3]])
        for row in await reader.rows("SELECT destination, fields, removed_number, reason FROM disclosure_state")
    )
    found["requests"] = sorted(
        [row[0], row[1], row[2]] for row in await reader.rows("SELECT type, state, step FROM request")
    )
    found["certificates"] = sorted(
        json.dumps(_plain(certificate.parse(row[0]).document), sort_keys=True)
        for row in await reader.rows("SELECT document FROM certificate")
    )
    found["pushed"] = sorted(
        json.dumps({name: value for name, value in line.items() if name not in {"id", "version"}}, sort_keys=True)
        for line in holds(client.deliveries()).values()
    )
    found["waiting"] = {name: await reader.count(name) for name in ("change_in", "audit_in")}
    return found


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """A revision without ids, times and salted digests: an interrupted erasure must state what an undisturbed one does."""
    timed = {"request", "previous", "issued_at", "received_at", "destroyed_at", "audit_entry", "person", "late", "scan"}
    plain = {name: value for name, value in document.items() if name not in timed}
    for name in ("stated", "due"):
        plain[name] = [{k: v for k, v in one.items() if k not in {"told_at", "at", "due_on"}} for one in document[name]]
    plain["stores"] = [
        one for one in document["stores"] if one["store"] != "audit salts"
    ]  # who takes it up looks again
    scan = {name: document["scan"][name] for name in ("how", "looked_for", "looked_at", "residue", "not_looked_at")}
    return plain | {
        "identifiers": [len(document["person"]["digests"]), document["late"]["identifiers"]],
        "scan": scan,
    }


async def _ledgers(vault: Vault, reader: Reader) -> tuple[list[str], int, int]:
    """Every subject's choices, in order, without ids; and how many entries and leaves of replays were folded into them."""
    everyone = list(await reader.drafts())
    async with vault.database.hot() as connection:
        stored, _ = await profiles(connection, everyone, tools_of(vault).state_key)
        choices = await ledgers(connection, stored)
    texts, entries, leaves = [], 0, 0
    for said in choices.values():
        left, times = without_replays(said)
        entries += len(said) - len(left)
        leaves += len(times)
        texts.append(json.dumps(left))
    return sorted(texts), entries, leaves


def without_replays(said: Sequence[Choice]) -> tuple[list[list[int]], set[int]]:
    """A ledger as it were if the start had not carried out what the journal knew of an act that was killed (ADR 0140).

    The act is made again by whoever got no answer, so an entry of a replay has a refusal of the same purpose behind it. It
    is that one, which then has the decision that it would have had. A replay's entry that no act follows stays: nobody
    asked for it. Also answers the times of the replays that were folded in: each left a leaf.
    """
    left: list[list[int]] = []
    times: set[int] = set()
    waiting: dict[int, Choice] = {}  # by purpose
    for one in said:
        if one.how is How.REPLAYED and one.decision in REFUSALS and one.purpose not in waiting:
            waiting[one.purpose] = one
            continue
        decision = one.decision
        replayed = waiting.get(one.purpose)
        if replayed is not None and one.how is not How.REPLAYED and decision in REFUSALS:
            del waiting[one.purpose]
            times.add(replayed.received_at)
            if replayed.decision is Decision.WITHDRAWN:
                decision = Decision.WITHDRAWN
        left.append([one.purpose, int(decision), int(one.how)])
    left += [[one.purpose, int(one.decision), int(one.how)] for one in waiting.values()]
    return left, times


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The names of what differs, with both sides."""
    return [
        f"{name}: {found.get(name)} instead of {expected[name]}"
        for name in expected
        if found.get(name) != expected[name]
    ]


def repeated(deliveries: list[tuple[str, list[dict[str, Any]]]]) -> list[str]:
    """Deliveries that share an idempotency key and do not say the same."""
    first: dict[str, Any] = {}
    return [
        f"delivery {key} came with other lines" for key, lines in deliveries if first.setdefault(key, lines) != lines
    ]


def kept(acknowledged: list[Told]) -> list[str]:
    """What was acknowledged once and then answered as if it had never been."""
    faults = []
    seen: dict[str, Told] = {}
    for one in acknowledged:
        before = seen.setdefault(one.name, one)
        if before is one or before.status != one.status or not isinstance(one.body, dict):
            continue
        if "stored" in one.body:
            faults += _resent(before, one)
        elif "sequence" in one.body and one.body["sequence"] < before.body["sequence"]:
            faults.append(f"{one.name}: sequence {one.body['sequence']} after {before.body['sequence']}")
    return faults


def _resent(before: Told, now: Told) -> list[str]:
    """A batch that was answered before is all duplicates now, but for what was dropped then for reasons that hold."""
    if now.body["stored"]:
        return [f"{now.name}: {now.body['stored']} of an acknowledged batch were stored again"]
    codes = Counter(drop["code"] for drop in now.body.get("dropped", []))
    if "id_conflict" in codes:
        return [f"{now.name}: an acknowledged message is in conflict with itself"]
    return []
