"""The state audit, whole: everybody by ranges of ids, then the journal, the lookup rows and the log against them.

Constant memory but for the ids of those who were ever erased. Each range is of one moment, so it runs beside writers. It
only looks; what it finds is left on record by `record`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.clock import DAY, Micros
from vault.flows.people.change import tools_of
from vault.flows.sweep.finding import Check, Finding
from vault.flows.sweep.lookup import look_up
from vault.flows.sweep.narrowed import compare, erased_of
from vault.flows.sweep.people import FIRST, RANGE, Person, read_parts, read_range
from vault.flows.sweep.person import Judge
from vault.flows.sweep.seen import Memory
from vault.flows.sweep.tally import tally
from vault.flows.vault import Vault
from vault.journal import witness
from vault.journal.witness import Seen
from vault.keys import names
from vault.storage.lease import SWEEP, position

PARTS: Final = 1000  # of events in memory at once
NAMED: Final = 1000  # findings that a report names; the others are counted
DEDUP_KEPT: Final = 399 * DAY  # traces of messages are kept 400 days: one that goes today is not missed
Progress = Callable[[str, int], None]


class Report(msgspec.Struct):
    """What was looked at, and what did not agree."""

    people: int = 0
    tags: int = 0
    narrowings: int = 0
    findings: list[Finding] = msgspec.field(default_factory=list)
    more: int = 0  # findings beyond those that are named
    last: UUID = FIRST  # where a run that was broken off goes on

    @property
    def good(self) -> bool:
        """Whether nothing is wrong. A narrowing that was never committed is not."""
        return not self.more and all(one.harmless for one in self.findings)

    def add(self, found: list[Finding]) -> None:
        """Keep them, up to a limit."""
        room = max(0, NAMED - len(self.findings))
        self.findings += found[:room]
        self.more += len(found[room:])

    def told(self) -> dict[str, Any]:
        """For programs."""
        return {
            "ok": self.good,
            "people": self.people,
            "tags": self.tags,
            "narrowings": self.narrowings,
            "findings": [one.told() for one in self.findings],
            "more": self.more,
        }


async def audit_state(vault: Vault, report: Report | None = None, progress: Progress | None = None) -> Report:
    """Looks at everything, from the person behind `report.last` on. `progress` is told what and how many."""
    report = Report() if report is None else report
    after = report.last
    tell = progress or (lambda _what, _count: None)
    async with vault.database.hot() as connection:
        swept = await position(connection, SWEEP)
    report.add(await asyncio.to_thread(forgotten, vault, swept))
    memory = memory_of(vault)
    memory.skip(after if after != FIRST else None)
    async for people, found in ranges(vault, after):
        report.people += len(people)
        report.last = people[-1].subject if people else report.last
        report.add(found)
        report.add((await asyncio.to_thread(memory.compare, people, end=not people))[0])
        tell("people", report.people)
    await the_rest(vault, report, tell)
    return report


async def the_rest(vault: Vault, report: Report, tell: Progress) -> None:
    """What is not gone through by people."""
    report.add(await _narrowings(vault, report))
    tell("narrowings", report.narrowings)
    tag = b""
    async with vault.database.hot() as connection:
        while True:
            found, tag, count = await look_up(connection, tag)
            report.add(found)
            report.tags += count
            if not count:
                break
            tell("tags", report.tags)
    async with vault.database.snapshot() as connection:
        report.add(await tally(connection))


async def ranges(vault: Vault, after: UUID, limit: int = RANGE) -> AsyncIterator[tuple[list[Seen], list[Finding]]]:
    """Range by range: who is there, and what of them does not agree. The last range is empty."""
    while True:
        seen, found = await one_range(vault, after, limit)
        yield seen, found
        if not seen:
            return
        after = seen[-1].subject


async def one_range(vault: Vault, after: UUID, limit: int) -> tuple[list[Seen], list[Finding]]:
    """One range of people."""
    since = Micros(vault.clock.now() - DEDUP_KEPT)
    async with vault.database.snapshot() as connection:
        people = await read_range(connection, after, limit, since)
    tools = tools_of(vault)
    seen: list[Seen] = []
    found: list[Finding] = []
    async for person in vault.turns.between(people):
        judge = Judge(vault, tools, person)
        judge.judge()
        if judge.opens_events and person.events:
            await _events(vault, judge, person)
        found += [Finding(check, person.subject) for check in sorted(judge.checks)]
        version = judge.state.version if judge.state is not None else 0  # what the row says of itself proves nothing
        seen.append(Seen(person.subject, version, judge.kept))
    return seen, found


async def _events(vault: Vault, judge: Judge, person: Person) -> None:
    after = (b"", -1)
    async with vault.database.hot() as connection:
        while parts := await read_parts(connection, person.subject, after, PARTS):
            after = parts[-1].event_key, parts[-1].purposes
            judge.judge_parts(parts)
            await vault.turns.pause()


async def _narrowings(vault: Vault, report: Report) -> list[Finding]:
    """The journal is read after the snapshot was taken, and entries that came since are left out by their number."""
    head = await asyncio.to_thread(vault.journal.verify)
    erased = await asyncio.to_thread(lambda: erased_of(entry.narrowing for entry in vault.journal.read()))
    async with vault.database.snapshot() as connection:
        known = (entry.narrowing for entry in vault.journal.read() if entry.number <= head.number)
        report.narrowings = head.number
        return await compare(connection, known, erased, vault.keyring.key(names.STATE))


def forgotten(vault: Vault, swept: int) -> list[Finding]:
    """`swept`: when the last round was finished, as the database has it. What was seen then must be there."""
    known = witness.finished_at(vault.settings.memory, vault.keyring.key(names.JOURNAL))
    return [Finding(Check.FORGOTTEN)] if known < swept else []


def erased_by(vault: Vault) -> Callable[[], set[bytes]]:
    """The ids of all whom the journal says erased: read once, when somebody asks."""
    return lru_cache(1)(lambda: erased_of(entry.narrowing for entry in vault.journal.read()))


def memory_of(vault: Vault) -> Memory:
    """What was seen last. Raises `Unreadable` for a file that was edited."""
    return Memory(witness.read(vault.settings.memory, vault.keyring.key(names.JOURNAL)), erased_by(vault))
