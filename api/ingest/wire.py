"""What sources send and get. Wire types: new members come at the end, optional, and old ones keep their meaning."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from vault.clock import Micros, from_datetime
from vault.errors import Invalid
from vault.flows.choose import ChoiceAct, ConsentAct
from vault.flows.ingest.item import Outcome


class Dropped(msgspec.Struct, frozen=True):
    """A message that was not stored. `index` counts from 0 in the batch; `purposes` are those that lacked a choice."""

    index: int
    code: str
    purposes: tuple[str, ...]


class Taken(msgspec.Struct, frozen=True):
    """The answer to a client source: it learns nothing about anybody's choices."""

    success: Literal[True] = True


class TakenFromServer(msgspec.Struct, frozen=True):
    """The answer to a server source: what is durable now, and what was dropped and why."""

    stored: int
    dropped: tuple[Dropped, ...]
    success: Literal[True] = True


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One choice of the person, as the source witnessed it. `said_at` is RFC 3339 with a zone; receipt if left out."""

    purpose: str
    decision: str
    said_at: datetime | None = None
    notice: str | None = None
    language: str | None = None
    evidence: Any = None
    covers: tuple[str, ...] = ()


class Consents(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The body of POST /v1/consents: one person, one act, its choices."""

    message_id: str
    choices: tuple[Choice, ...]
    user_id: str | None = None
    anonymous_id: str | None = None


class Chosen(msgspec.Struct, frozen=True, omit_defaults=True):
    """The ledger's answer: the sequence of the last entry, and the state of each purpose after it.

    `ignored`, where there are any: purposes of the act that no choice touches, so that nothing was written about them.
    """

    sequence: int
    state: dict[str, str]
    ignored: tuple[str, ...] = ()


def taken(outcome: Outcome) -> TakenFromServer:
    """The outcome of a receipt, for a server source."""
    dropped = tuple(Dropped(one.index, one.code, one.purposes) for one in outcome.dropped)
    return TakenFromServer(outcome.stored, dropped)


def act_of(body: Consents) -> ConsentAct:
    """The act that the flow takes. Raises Invalid for a time without a zone."""
    return ConsentAct(
        user_id=body.user_id,
        anonymous_id=body.anonymous_id,
        message_id=body.message_id,
        choices=tuple(_choice(choice) for choice in body.choices),
    )


def _choice(choice: Choice) -> ChoiceAct:
    return ChoiceAct(
        purpose=choice.purpose,
        decision=choice.decision,
        said_at=_micros(choice.said_at),
        notice=choice.notice,
        language=choice.language,
        evidence=choice.evidence,
        covers=choice.covers,
    )


def _micros(at: datetime | None) -> Micros | None:
    if at is None:
        return None
    try:
        return from_datetime(at)
    except ValueError:
        raise Invalid("saidAt needs a zone, as in 2026-11-23T20:20:42Z.") from None
