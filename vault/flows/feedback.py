"""The way back: a destination says what it deleted, and what people told it. A report can only lower.

Ids are the destination's own pseudonyms; one that is invented finds nobody, and is not told apart from one of somebody
who was erased (threats G12).
"""

import datetime as dt
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from vault.audit.entry import Tag
from vault.catalogue.numbers import bits
from vault.clock import Micros, from_datetime
from vault.consent.act import Said, act_entries
from vault.consent.ledger import Authority, Decision, How
from vault.consent.stamp import Speaker
from vault.disclosures.store import acknowledge as mark_acknowledged
from vault.errors import Invalid, NotFound, TooLarge, Unreadable
from vault.flows.people.change import ProfileDraft, change_profiles
from vault.flows.people.choices import take
from vault.flows.release.plan import Plan
from vault.flows.trail import leave
from vault.flows.vault import Vault

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
    roots = sorted({root for line in _split(lines) if (root := plan.root_of(_decoded(_acknowledgement, line).id)) is not None})
    now = vault.clock.now()
    async with vault.database.begin() as connection:
        count = await mark_acknowledged(connection, plan.contract.number, roots, now)
        detail = {"destination": destination, "profiles": count}
        await leave(vault, connection, Tag.DISCLOSURE_ACKNOWLEDGEMENT_TAKEN, f"destination:{destination}", detail)
    return count


async def report(vault: Vault, destination: str, lines: bytes) -> dict[str, Any]:
    """Unsubscribes and complaints lower consent for the destination's purpose; bounces are counted and lower nothing.

    Answers `{"reports": n, "lowered": n, "unknown": n, "bounced": n}`.
    """
    plan = _plan(vault, destination)
    reports = [_decoded(_report, line) for line in _split(lines)]
    figures = {"reports": len(reports), "lowered": 0, "unknown": 0, "bounced": 0}
    for one in reports:
        purposes = _purposes(vault, plan, one.purpose)
        root = plan.root_of(one.id)
        if one.kind == "bounced":
            figures["bounced"] += 1
        elif root is not None and await _lower(vault, plan, root, purposes, _time(vault, one.at)):
            figures["lowered"] += 1
        else:
            figures["unknown"] += 1
    async with vault.database.begin() as connection:
        detail: dict[str, Any] = {"destination": destination, **figures}
        await leave(vault, connection, Tag.DISCLOSURE_REPORT_TAKEN, f"destination:{destination}", detail)
    return figures


async def _lower(vault: Vault, plan: Plan, root: UUID, purposes: int, said_at: Micros) -> bool:
    speaker = Speaker(authority=Authority.SERVER)
    said = [Said(purpose=number, decision=Decision.WITHDRAWN, said_at=said_at) for number in bits(purposes)]

    def act(profile: ProfileDraft) -> None:
        author = profile.root
        now = author.tools.now
        outcome = act_entries(
            vault.catalogue, author.standing, said, speaker, how=How.REPORT, said_at=said_at, received_at=now
        )
        take(vault.catalogue, profile, author, outcome.entries)

    try:
        await change_profiles(vault, [root], act, f"destination:{plan.contract.name}")
    except (NotFound, Unreadable):
        return False
    return True


def _purposes(vault: Vault, plan: Plan, name: str | None) -> int:
    """The purposes that a report is about: the one it names, else all that the contract has and a choice can touch."""
    touchable = plan.contract.purposes & (vault.catalogue.consent_mask | vault.catalogue.interest_mask)
    if name is None:
        return touchable
    purpose = vault.catalogue.purposes.get(name)
    if purpose is None or not purpose.mask & touchable:
        raise Invalid("A report names a purpose of the contract that a person can refuse, or none.", code="unknown_purpose")
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


def _time(vault: Vault, text: str | None) -> Micros:
    now = vault.clock.now()
    if text is None:
        return now
    try:
        return min(from_datetime(dt.datetime.fromisoformat(text)), now)
    except (ValueError, OverflowError):
        raise Invalid("`at` is RFC 3339 with a zone.", code="invalid_time") from None
