"""The way back: a destination says what it deleted, and what people told it. A report can only lower.

Ids are the destination's own pseudonyms; one that is invented finds nobody, and is not told apart from one of somebody
who was erased (threats G12).
"""

import datetime as dt
from collections import Counter
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from vault.audit.entry import Tag
from vault.catalogue.numbers import bits
from vault.clock import Micros, from_datetime
from vault.consent.act import Said, act_entries
from vault.consent.ledger import Authority, Decision, How
from vault.consent.stamp import Speaker
from vault.consent.standing import Facts
from vault.disclosures.store import acknowledge as mark_acknowledged
from vault.errors import Invalid, NotFound, TooLarge, Unreadable
from vault.flows.people.change import change_profiles
from vault.flows.people.choices import take
from vault.flows.people.profile import ProfileDraft
from vault.flows.release.plan import Plan
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.keys import names

MAX_LINES: Final = 1_000
_NO_LINE: Final = "Each line is one JSON object; look at the HTTP reference for its members."


class _Acknowledgement(msgspec.Struct, forbid_unknown_fields=True):
    id: str


class _Report(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    kind: Literal["unsubscribed", "complained", "bounced"]
    purpose: str | None = None
    at: str | None = None


_acknowledgement: Final = msgspec.json.Decoder(_Acknowledgement)
_report: Final = msgspec.json.Decoder(_Report)


async def acknowledge(vault: Vault, destination: str, lines: bytes) -> int:
    """`{"id": …}` lines: these profiles' removals and retractions were carried out. Answers how many were still open."""
    plan = _plan(vault, destination)
    roots = sorted(
        {root for line in _split(lines) if (root := plan.root_of(_decoded(_acknowledgement, line).id)) is not None}
    )
    now = vault.clock.now()
    async with vault.database.begin() as connection:
        count = await mark_acknowledged(connection, plan.contract.number, roots, now, vault.keyring.key(names.STATE))
        detail: dict[str, Any] = {"destination": destination, "profiles": count}
        await leave(vault, connection, Tag.DISCLOSURE_ACKNOWLEDGEMENT_TAKEN, f"destination:{destination}", detail)
    return count


async def report(vault: Vault, destination: str, lines: bytes) -> dict[str, Any]:
    """Unsubscribes and complaints lower consent for the destination's purpose; bounces are counted and lower nothing.

    All lines are read before the first has an effect. The same report again lowers nothing more, and a line of it that is
    about nobody says so no differently from one about somebody who was erased.

    Answers `{"reports": n, "lowered": n, "unknown": n, "bounced": n}`; `lowered` counts what now stands refused.
    """
    plan = _plan(vault, destination)
    told = [_told(vault, plan, _decoded(_report, line)) for line in _split(lines)]
    figures = {"reports": len(told), "lowered": 0, "unknown": 0, "bounced": 0}
    for one, count in Counter(told).items():
        if one.bounced:
            figures["bounced"] += count
        elif one.root is not None and await _lower(vault, plan, one):
            figures["lowered"] += count
        else:
            figures["unknown"] += count
    async with vault.database.begin() as connection:
        detail: dict[str, Any] = {"destination": destination, **figures}
        await leave(vault, connection, Tag.DISCLOSURE_REPORT_TAKEN, f"destination:{destination}", detail)
    return figures


class _Told(NamedTuple):
    """A report, understood. Times in microseconds since 1970 UTC."""

    root: UUID | None
    bounced: bool
    purposes: int
    said_at: Micros | None  # None: the report does not say when


def _told(vault: Vault, plan: Plan, one: _Report) -> _Told:
    purposes = _purposes(vault, plan, one.purpose)
    return _Told(plan.root_of(one.id), one.kind == "bounced", purposes, _time(vault, one.at))


async def _lower(vault: Vault, plan: Plan, told: _Told) -> bool:
    """True if the person is there: then every purpose of the report stands refused."""
    found = False

    def act(profile: ProfileDraft) -> None:
        nonlocal found
        found = True
        author = profile.root
        now = author.tools.now
        said = [
            Said(purpose=number, decision=Decision.WITHDRAWN)
            for number in bits(told.purposes)
            if any(_lowers(member.standing.of(number), told.said_at) for member in profile.members)
        ]
        speaker = Speaker(authority=Authority.SERVER)
        said_at = now if told.said_at is None else told.said_at
        outcome = act_entries(
            vault.catalogue, author.standing, said, speaker, how=How.REPORT, said_at=said_at, received_at=now
        )
        take(vault.catalogue, profile, author, outcome.entries)

    if told.root is None:
        return False
    try:
        await change_profiles(vault, [told.root], act, f"destination:{plan.contract.name}")
    except (NotFound, Unreadable):
        return False
    return found


def _lowers(facts: Facts, said_at: Micros | None) -> bool:
    """Would a refusal add anything to what is known? A destination that repeats itself must not grow the ledger."""
    if not facts.refused or facts.rank < Authority.SERVER.rank:
        return True
    return said_at is not None and said_at > facts.horizon


def _purposes(vault: Vault, plan: Plan, name: str | None) -> int:
    """The purposes that a report is about: the one it names, else all that the contract has and a choice can touch."""
    touchable = plan.contract.purposes & (vault.catalogue.consent_mask | vault.catalogue.interest_mask)
    if name is None:
        return touchable
    purpose = vault.catalogue.purposes.get(name)
    if purpose is None or not purpose.mask & touchable:
        raise Invalid(
            "A report names a purpose of the contract that a person can refuse, or none.", code="unknown_purpose"
        )
    return purpose.mask


def _plan(vault: Vault, destination: str) -> Plan:
    plan = vault.plan(destination)
    if plan is None:
        raise NotFound
    return plan


def _split(lines: bytes) -> list[bytes]:
    found = [line for line in lines.split(b"\n") if line.strip()]
    if len(found) > MAX_LINES:
        raise TooLarge(f"At most {MAX_LINES} lines at a time.", code="too_many_lines")
    return found


def _decoded(decoder: "msgspec.json.Decoder[Any]", line: bytes) -> Any:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Invalid(_NO_LINE, code="invalid_line") from None


def _time(vault: Vault, text: str | None) -> Micros | None:
    if text is None:
        return None
    try:
        return min(from_datetime(dt.datetime.fromisoformat(text)), vault.clock.now())
    except (ValueError, OverflowError):
        raise Invalid("`at` is RFC 3339 with a zone.", code="invalid_time") from None
