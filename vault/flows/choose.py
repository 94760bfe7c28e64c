"""`POST /v1/consents`: choices said through a door of their own.

They go the way of a message, so that who is meant, what was said before and who lost a race are judged by the same rules
as everywhere.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from vault.canonical import canonical_json, framed
from vault.catalogue.load import Catalogue
from vault.catalogue.purposes import Purpose
from vault.clock import Micros
from vault.consent.act import Said
from vault.consent.decision import words_of
from vault.consent.ledger import MAX_COVERED, REFUSALS, Decision, How
from vault.consent.standing import mask_of
from vault.errors import Conflict, Invalid, NotFound
from vault.events.message import Message
from vault.flows.alone import take_alone
from vault.flows.ingest.item import Act, Item, Named, items_of
from vault.flows.ingest.receive import take_items
from vault.flows.ingest.world import read_world
from vault.flows.people.change import tools_of
from vault.flows.people.profile import ProfileDraft
from vault.flows.vault import Vault
from vault.ids import random_bytes
from vault.sources.store import Source
from vault.state.record import State

MAX_CHOICES: Final = 63  # one a purpose
MAX_TEXT: Final = 100  # characters of a messageId
MAX_EVIDENCE: Final = 16_384  # bytes: a form as it was filled in, not a scan of it
SALT_BYTES: Final = 16
# RFC 5646 section 4.4.1: 35 characters hold every tag but private ones
_LANGUAGE: Final = re.compile(r"(?=.{1,35}\Z)[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*", re.ASCII)
_DECISIONS: Final = {decision.name.lower(): decision for decision in (Decision.REQUESTED, Decision.GRANTED, *REFUSALS)}


class ChoiceAct(msgspec.Struct, frozen=True, kw_only=True):
    """One choice as a source says it. `evidence` is any JSON value, and is kept sealed."""

    purpose: str
    decision: str  # requested, granted, denied, withdrawn or objected
    said_at: Micros | None = None
    notice: str | None = None
    language: str | None = None
    evidence: Any = None
    covers: tuple[str, ...] = ()  # names of traits that a grant reaches back to

    def __repr__(self) -> str:
        return f"ChoiceAct({self.purpose}, {self.decision})"


class ConsentAct(msgspec.Struct, frozen=True, kw_only=True):
    """Choices of one person, said at once."""

    user_id: str | None
    anonymous_id: str | None
    message_id: str
    choices: tuple[ChoiceAct, ...]

    def __repr__(self) -> str:
        return f"ConsentAct({len(self.choices)})"


class ChoiceOutcome(msgspec.Struct, frozen=True):
    """The ledger's answer: the sequence of its last entry, and where each purpose stands after it.

    `ignored` names the purposes of the act that no choice touches (contract, law): nothing was written about them.
    """

    sequence: int
    state: dict[str, str]
    ignored: tuple[str, ...] = ()


async def choose(vault: Vault, source: Source, act: ConsentAct) -> ChoiceOutcome:
    """Take the choices of one person from a source. Durable, and in effect, when it answers; the same act twice is one act.

    Raises `Invalid` for an unknown purpose, decision or field, `Conflict` for a messageId that said something else before,
    `NotFound` where nobody can be meant.
    """
    vault.keyring.refresh()  # its tags are made once
    item = _item(vault, source, act)
    alone = await take_alone(vault, source, item)
    if alone is not None:
        return _outcome(vault, item, {tag: member.subject for member in alone.members for tag in member.tags}, alone)
    taken = await take_items(vault, source, [item])
    codes = {dropped.code for dropped in taken.outcome.dropped}
    if "id_conflict" in codes:
        raise Conflict("This messageId said something else before; give each act its own.", code="id_conflict")
    if codes - {"duplicate"}:
        raise NotFound("Nobody can be found or made by these ids.")
    outcome = await _standing(vault, item)
    touched = vault.catalogue.consent_mask | vault.catalogue.interest_mask
    ignored = [one.purpose for one in act.choices if not vault.catalogue.purposes[one.purpose].mask & touched]
    return msgspec.structs.replace(outcome, ignored=tuple(dict.fromkeys(ignored)))


async def _standing(vault: Vault, item: Item) -> ChoiceOutcome:
    """Where the person of an item stands now."""
    tools = tools_of(vault)
    async with vault.database.hot() as connection:
        world = await read_world(connection, tools, [item], again=True)
    for named in _weightiest_first(item):
        profile = world.profile_of(named.tag)
        if profile is not None:
            return _outcome(vault, item, world.owners, profile)
    raise NotFound("Nobody can be found by these ids.")


def _weightiest_first(item: Item) -> list[Named]:
    return sorted(item.named, key=lambda one: (not one.own, one.kind.priority))


def _outcome(vault: Vault, item: Item, owners: Mapping[bytes, UUID], profile: ProfileDraft) -> ChoiceOutcome:
    """The end of the ledger that the act was written to, and the choices of the whole profile."""
    now = vault.clock.now()
    members = {member.subject: member.state for member in profile.members}
    own = next(members[owners[one.tag]] for one in _weightiest_first(item) if owners.get(one.tag) in members)
    return ChoiceOutcome(own.ledger_count, words_of(vault.catalogue, _joined(list(members.values()), now), now))


def _joined(members: list[State], now: Micros) -> State:
    """The choices of a whole profile in one state: refused over granted over neutral, as `decision.meet` takes them."""
    first, *others = members
    live = 0
    for state in members:
        live |= state.granted & ~mask_of(purpose for purpose, ends in state.expiries if ends <= now)
    ended = {purpose: ends for state in members for purpose, ends in state.expiries if not live >> purpose & 1}
    for state in others:
        first = msgspec.structs.replace(
            first,
            granted=first.granted | state.granted,
            refused=first.refused | state.refused,
            blocked=first.blocked | state.blocked,
            objected=first.objected | state.objected,
            minor=first.minor or state.minor,
            fenced=first.fenced or state.fenced,
        )
    return msgspec.structs.replace(first, expiries=tuple(sorted(ended.items())))


def _item(vault: Vault, source: Source, act: ConsentAct) -> Item:
    if not (act.user_id or act.anonymous_id):
        raise Invalid("Name the person by userId or anonymousId.", code="no_user_anon_id")
    if not 0 < len(act.message_id) <= MAX_TEXT:
        raise Invalid("messageId has 1 to 100 characters.", code="message_id_too_long")
    if not 0 < len(act.choices) <= MAX_CHOICES:
        raise Invalid("An act has 1 to 63 choices.", code="no_choices")
    proofs = [_proof(choice) for choice in act.choices]
    said = tuple(_said(vault, choice, digest) for choice, (digest, _) in zip(act.choices, proofs, strict=True))
    now = vault.clock.now()
    message = Message(
        index=0,
        type="identify",
        message_id=act.message_id,
        user_id=act.user_id or None,
        anonymous_id=act.anonymous_id or None,
        said_at=now,
        received_at=now,
        digested=msgspec.json.encode((act.user_id, act.anonymous_id, act.choices)),
    )
    item = items_of(vault.places, vault.keyring, source, [message])[0]
    return msgspec.structs.replace(item, act=Act(How.API, said, tuple(sealed for _, sealed in proofs)))


def _said(vault: Vault, choice: ChoiceAct, digest: bytes) -> Said:
    purpose = vault.catalogue.purposes.get(choice.purpose)
    decision = _DECISIONS.get(choice.decision)
    if purpose is None:
        raise Invalid("Unknown purpose; GET /v1/purposes lists them.", code="unknown_purpose")
    if decision is None:
        raise Invalid(f"A decision is one of {', '.join(sorted(_DECISIONS))}.", code="unknown_decision")
    if choice.notice is not None and not _was_shown(vault.catalogue, purpose, choice):
        raise Invalid(
            "A notice is NAME/VERSION of the purpose's own text under notices/, in a language that it has.",
            code="unknown_notice",
        )
    if choice.language is not None and not _LANGUAGE.fullmatch(choice.language):
        raise Invalid("`language` is a tag as in RFC 5646: en, pt-BR.", code="invalid_language")
    covers = []
    for name in dict.fromkeys(choice.covers):
        trait = vault.catalogue.traits.get(name)
        if trait is None:
            raise Invalid("`covers` holds names of traits.", code="unknown_trait")
        covers.append(trait.number)
    if len(covers) > MAX_COVERED:
        raise Invalid(f"`covers` holds at most {MAX_COVERED} traits.", code="too_many_traits")
    return Said(
        purpose=purpose.number,
        decision=decision,
        said_at=choice.said_at,
        notice=choice.notice,
        language=choice.language,
        evidence=digest,
        covers=tuple(covers),
    )


def _was_shown(catalogue: Catalogue, purpose: Purpose, choice: ChoiceAct) -> bool:
    """True if the notice that a choice names is a text about this purpose, in this language if one is named."""
    return any(
        name == purpose.notice
        and choice.notice == f"{name}/{version}"
        and (choice.language is None or choice.language.lower().partition("-")[0] == language.lower())
        for name, version, language in catalogue.notices
    )


def _proof(choice: ChoiceAct) -> tuple[bytes, bytes]:
    """(digest for the ledger, what is sealed beside it): the evidence behind a salt, or nothing."""
    if choice.evidence is None:
        return b"", b""
    try:
        evidence = canonical_json(choice.evidence)
    except ValueError:
        raise Invalid("`evidence` is a JSON value.", code="invalid_evidence") from None
    if len(evidence) > MAX_EVIDENCE:
        raise Invalid("`evidence` has at most 16 KB.", code="evidence_too_large")
    salted = framed(random_bytes(SALT_BYTES), evidence)
    return hashlib.sha256(salted).digest(), salted
