"""Sixteen writers of overlapping people, in several processes: `python -m tests.faults.writers --seed 1` (threats B8, D1, G10).

Each writer has a shuffled share of one list of acts: orders of a few people whom all of them write, links of devices, and
refusals. The list is made so that its outcome does not depend on the order (design section 6: refused over granted over
neutral; sums are exact; a device belongs to one person), so what is there in the end must be what a plain sequential
model says, and what a vault says that took the same acts one after the other.
"""

import argparse
import asyncio
import json
import os
import random
import traceback
from collections import Counter
from decimal import Decimal
from typing import Any, Final

import msgspec

from tests.fakes import START, FakeClock
from tests.faults import oracle
from tests.faults.client import Client, Interrupted, Json, Secrets
from tests.faults.stage import Place, Stage, stage
from tests.faults.street import printed
from tests.faults.trial import Report, prepare
from tests.worlds import identify, order, track
from vault.bootstrap import open_vault
from vault.clock import SECOND, Micros
from vault.consent.ledger import How

PROCESSES: Final = 4
TASKS: Final = 4  # writers a process
PEOPLE: Final = 8
DEVICES: Final = 3  # a person
AT: Final = "2026-03-01T10:00:00Z"
TRIES: Final = 40  # of one act: each is lost only to somebody who wrote
NOW: Final = Micros(START + 600 * SECOND)


class Act(msgspec.Struct):
    """One request: a batch, or a choice by its id."""

    name: str
    messages: list[Json] = []
    user: str | None = None
    purpose: str | None = None


class Expected(msgspec.Struct):
    """The sequential model of one person."""

    total: Decimal = Decimal(0)
    orders: int = 0
    views: int = 0
    acts: Counter[str] = msgspec.field(default_factory=Counter)
    devices: set[str] = msgspec.field(default_factory=set)


def acts(seed: int, orders: int) -> tuple[list[Act], dict[str, Expected]]:
    """Everything that is written, and what it comes to."""
    drawn = random.Random(seed)
    users = [f"w-{number}" for number in range(PEOPLE)]
    model = {user: Expected() for user in users}
    found: list[Act] = []
    batch: list[Json] = []
    for number in range(orders):
        user, amount = drawn.choice(users), Decimal(drawn.randint(1, 9999)) / 100
        model[user].total += amount
        model[user].orders += 1
        batch.append(order(user, float(amount), id=f"o-{number}", order_id=f"o-{number}", at=AT))
        if number % 7 == 0:
            batch.append(identify(user, email=f"{user}@planted.example", firstName="Planted", id=f"i-{number}", at=AT))
        if len(batch) >= 12:
            drawn.shuffle(batch)
            found.append(Act(f"b-{number}", batch))
            batch = []
    found.append(Act("b-last", batch))
    for user in users:
        for number in range(DEVICES):
            device = f"d-{user}-{number}"
            model[user].devices.add(device)
            model[user].views += 1
            view = track("Product Viewed", anon=device, product_id="p", id=f"v-{device}", at=AT)
            link = identify(user, anon=device, id=f"l-{device}", at=AT)
            found += [Act(f"v-{device}", [view]), Act(f"l-{device}", [link]), Act(f"l2-{device}", [link, view])]
    for user in users[: PEOPLE // 2]:
        for number in range(4):
            purpose = drawn.choice(("marketing", "advertising"))
            model[user].acts[purpose] += 1
            found.append(Act(f"c-{user}-{number}", user=user, purpose=purpose))
    drawn.shuffle(found)
    return found, model


async def write(client: Client, mine: list[Act], lost: Counter[str]) -> None:
    """One writer. An act that lost its races is made again, and counted."""
    for act in mine:
        for attempt in range(TRIES):
            try:
                if act.user is not None and act.purpose is not None:
                    await client.choose(act.name, act.user, {act.purpose: "withdrawn"})
                else:
                    answer = await client.send(act.name, *act.messages)
                    codes = {drop["code"] for drop in answer["dropped"]}
                    assert not codes - {"duplicate"}, f"{act.name} was answered with {answer}"
            except Interrupted as error:
                lost[str(error).partition(": ")[2]] += 1
                if attempt == TRIES - 1:
                    raise
                continue
            break


async def process(place: Place, shares: list[list[Act]]) -> Report:
    """One process with its writers."""
    clock = FakeClock(NOW)
    secrets = msgspec.json.decode((place.folder / "secrets").read_bytes(), type=Secrets)
    lost: Counter[str] = Counter()
    async with open_vault(place.settings, clock=clock) as vault:
        client = Client(vault, clock, secrets, place)
        await asyncio.gather(*(write(client, share, lost) for share in shares))
    return Report(facts={"lost": dict(lost)})


async def judge(place: Place, model: dict[str, Expected]) -> Report:
    """The people against the model; and the feeds, for comparison with another vault."""
    report = Report()
    clock = FakeClock(Micros(NOW + 120 * SECOND))
    secrets = msgspec.json.decode((place.folder / "secrets").read_bytes(), type=Secrets)
    async with open_vault(place.settings, clock=clock) as vault:
        client = Client(vault, clock, secrets, place)
        await client.settle()
        await oracle.check(vault, [])
        reader = oracle.Reader(vault, {})
        plan = vault.plan("warehouse")
        assert plan is not None
        shown = {line["id"]: line for line in await reader.feed("warehouse")}
        drafts = await reader.drafts()
        for user, expected in model.items():
            draft = await reader.draft(user)
            root = draft.state.root
            members = [subject for subject, one in drafts.items() if one.state.root == root]
            rows = await reader.rows(
                "SELECT count(DISTINCT event_key) FROM event WHERE subject_id = ANY ($1::uuid[])", members
            )
            traits = shown[plan.id_of(root)]["traits"]
            choices = Counter(
                vault.catalogue.purpose_by_number[one.purpose].name
                for one in await reader.ledger(draft.subject)
                if one.how is How.API
            )
            stands = await reader.stands(user)
            found = {
                "events": rows[0][0],
                "orders": traits["order_count"],
                "total": Decimal(str(traits["lifetime_value"])),
                "acts": choices,
                "refused": {name for name in expected.acts if stands[name] in {"withdrawn", "denied"}},
                "joined": {d for d in expected.devices if (await reader.draft(d, "anonymous_id")).state.root == root},
            }
            wanted = {
                "events": expected.orders + expected.views,
                "orders": expected.orders,
                "total": expected.total,
                "acts": expected.acts,
                "refused": set(expected.acts),
                "joined": expected.devices,
            }
            report.faults += [
                f"{user}: {name} is {found[name]} and not {wanted[name]}"
                for name in wanted
                if found[name] != wanted[name]
            ]
        report.facts = {
            name: await reader.feed(name) for name in ("warehouse", "support-desk", "email-tool", "ad-platform")
        }
        report.facts = {name: sorted(_plain(line) for line in lines) for name, lines in report.facts.items()}
        async with vault.database.hot() as connection:
            report.facts["deadlocks"] = await connection.fetchval(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            )
    return report


def _plain(line: Json) -> str:
    return json.dumps({name: value for name, value in line.items() if name not in {"id", "version"}}, sort_keys=True)


def forked(works: list[Any]) -> list[Report]:
    """The reports of processes that run at the same time."""
    pipes = []
    for work in works:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                report = asyncio.run(work)
            except BaseException:
                report = Report(faults=[traceback.format_exc(limit=-5)])
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(msgspec.json.encode(report))
            os._exit(0)
        work.close()
        os.close(writing)
        pipes.append((child, reading))
    reports = []
    for child, reading in pipes:
        with os.fdopen(reading, "rb") as pipe:
            reports.append(msgspec.json.decode(pipe.read(), type=Report))
        os.waitpid(child, 0)
    return reports


def run(made: Stage, seed: int, orders: int) -> Json:
    """One round: many writers, one writer, the model."""
    prepare(made)
    found, model = acts(seed, orders)
    crowd, alone = made.copy("crowd"), made.copy("alone")
    shares = [found[number :: PROCESSES * TASKS] for number in range(PROCESSES * TASKS)]
    reports = forked([process(crowd, shares[number * TASKS : (number + 1) * TASKS]) for number in range(PROCESSES)])
    reports += forked([process(alone, [found])])
    judged = forked([judge(crowd, model)]) + forked([judge(alone, model)])
    findings = [fault for report in (*reports, *judged) for fault in report.faults]
    if not findings:
        many, one = (report.facts for report in judged)
        findings += [
            f"{name} differs from what one writer makes"
            for name in one
            if name != "deadlocks" and many[name] != one[name]
        ]
    lost: Counter[str] = Counter()
    for report in reports:
        lost.update(report.facts.get("lost", {}))
    return {
        "scenario": "writers", "writers": PROCESSES * TASKS, "acts": len(found), "findings": len(findings), "seed": seed,
        "told_to_retry": dict(lost), "deadlocks": judged[0].facts.get("deadlocks"), "faults": findings,
    }  # fmt: skip


def main() -> int:
    """Ends with 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.writers", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--orders", type=int, default=1200)
    options = parser.parse_args()
    with stage() as made:
        return printed(run(made, options.seed, options.orders))


if __name__ == "__main__":
    raise SystemExit(main())
