"""A whole vault on a fresh database, with the people, sources and destinations of a small shop: for tests of journeys.

    async def test_...(world: World) -> None:
        await world.send(identify("u-1", email="ada@example.com"), order("u-1", 20))
        await world.settle()                        # the worker's loops run dry
        assert (await world.feed("email-tool"))[0]["traits"] == {"email": "ada@example.com"}

The fixture `world` (tests/flows/conftest.py) yields a `World` on the fixture `vault`; at the end of every test it reads
everything again (`World.check`): every state agrees with its rows, masks are the fold of the ledger, every value opens.
Sources: "shop" and "till" speak for servers, "app" and "site" for browsers. Time is the fixture `clock`; it stands still.
Messages are plain dicts, as an SDK would send them; each gets a messageId of its own unless it is given one.
"""

import itertools
import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from vault.audit.entry import Entry, Tag, parse
from vault.catalogue.numbers import ACCOUNTS, RIGHTS, bits
from vault.clock import Micros
from vault.consent.ledger import Choice
from vault.consent.standing import fold
from vault.flows.choose import ChoiceAct, ChoiceOutcome, ConsentAct, choose
from vault.flows.ingest.item import Outcome
from vault.flows.ingest.receive import receive
from vault.flows.people.change import assemble, tools_of
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.read import ledgers, profiles
from vault.flows.release.page import page
from vault.flows.tags import identity_tag
from vault.flows.vault import Vault
from vault.identity.identifiers import normalise
from vault.keys.compartments import Opener
from vault.profile.accounts import read_accounts, write_accounts
from vault.profile.sealing import open_event
from vault.sources import store as sources
from vault.sources.store import Source
from vault.state.record import State
from vault.worker import run

Message = dict[str, Any]

ALL: Final = {"functional": True, "analytics": True, "advertising": True}
NONE: Final = dict.fromkeys(ALL, False)
SERVERS: Final = ("shop", "till")
CLIENTS: Final = ("app", "site")
_numbers = itertools.count(1)


# --- messages ---------------------------------------------------------------------------------------------------------


def stamp(**answers: bool) -> dict[str, bool]:
    """Category preferences: everything agreed to but what is named otherwise."""
    return {**ALL, **answers}


def message(kind: str, user: str | None = None, **fields: Any) -> Message:
    """Any message. `anon` is the anonymousId, `agree` its stamp (all, unless told; None: no stamp), `at` its timestamp."""
    made: Message = {"type": kind, "messageId": fields.pop("id", None) or f"m-{next(_numbers)}"}
    agree = fields.pop("agree", ALL)
    context: dict[str, Any] = fields.pop("context", {})
    if agree is not None:
        context = {**context, "consent": {"categoryPreferences": agree}}
    for name, key in (
        ("userId", user),
        ("anonymousId", fields.pop("anon", None)),
        ("timestamp", fields.pop("at", None)),
    ):
        if key is not None:
            made[name] = key
    return {**made, "context": context, **fields}


def identify(user: str | None = None, *, anon: str | None = None, **traits: Any) -> Message:
    """An `identify` with these traits. `agree`, `id`, `at` as for `message`."""
    own = {name: traits.pop(name) for name in ("agree", "id", "at", "context") if name in traits}
    return message("identify", user, anon=anon, traits=traits, **own)


def track(event: str, user: str | None = None, *, anon: str | None = None, **properties: Any) -> Message:
    """A `track` with these properties. `agree`, `id`, `at` as for `message`."""
    own = {name: properties.pop(name) for name in ("agree", "id", "at", "context") if name in properties}
    return message("track", user, anon=anon, event=event, properties=properties, **own)


def order(user: str | None = None, revenue: float | str = 10, *, anon: str | None = None, **fields: Any) -> Message:
    """An order in US dollars, of a number of its own unless told."""
    known = {"order_id": f"o-{next(_numbers)}", "revenue": revenue, "currency": "USD"}
    return track("Order Completed", user, anon=anon, **{**known, **fields})


def preference(user: str | None = None, *, anon: str | None = None, **answers: Any) -> Message:
    """The change event: an act that says just these categories. `id` and `at` as for `message`."""
    own = {name: answers.pop(name) for name in ("id", "at") if name in answers}
    return track("Segment Consent Preference Updated", user, anon=anon, agree=answers, **own)


def say(purpose: str, decision: str, **more: Any) -> ChoiceAct:
    """One choice for `World.choose`."""
    return ChoiceAct(purpose=purpose, decision=decision, **more)


# --- the world --------------------------------------------------------------------------------------------------------


class World:
    """A vault with sources. Every step is the one that the doors take."""

    def __init__(self, vault: Vault, known: Mapping[str, Source]) -> None:
        self.vault = vault
        self.sources = dict(known)

    def __repr__(self) -> str:
        return "World(...)"

    @classmethod
    async def of(cls, vault: Vault) -> "World":
        """A world on an empty vault."""
        known = {}
        async with vault.database.begin() as connection:
            for name in (*SERVERS, *CLIENTS):
                known[name], _ = await sources.add(
                    connection, name, server=name in SERVERS, now=vault.clock.now(), key=vault.rows_key
                )
        return cls(vault, known)

    # --- writing ------------------------------------------------------------------------------------------------------

    async def send(self, *messages: Message, source: str = "shop", **envelope: Any) -> Outcome:
        """One batch."""
        body = json.dumps({"batch": list(messages), **envelope}).encode()
        return await receive(self.vault, self.sources[source], body, "batch")

    async def single(self, one: Message, source: str = "shop") -> Outcome:
        """One message by the path of its type."""
        return await receive(self.vault, self.sources[source], json.dumps(one).encode(), one["type"])

    async def choose(
        self,
        *choices: ChoiceAct,
        user: str | None = None,
        anon: str | None = None,
        id: str | None = None,  # noqa: A002 - as in messages
        source: str = "shop",
    ) -> ChoiceOutcome:
        """`POST /v1/consents`."""
        name = id or f"c-{next(_numbers)}"
        act = ConsentAct(user_id=user, anonymous_id=anon, message_id=name, choices=choices)
        return await choose(self.vault, self.sources[source], act)

    async def settle(self) -> None:
        """The worker's loops run until none finds anything to do."""
        await run(self.vault, once=True)

    # --- what destinations see ----------------------------------------------------------------------------------------

    async def lines(self, destination: str, cursor: str | None = None) -> tuple[list[dict[str, Any]], str]:
        """All lines after the cursor, page after page, and the last cursor."""
        found: list[dict[str, Any]] = []
        while True:
            *part, last = (json.loads(line) for line in await page(self.vault, destination, cursor))
            found += part
            cursor = str(last["cursor"])
            if not last["more"]:
                return found, cursor

    async def feed(self, destination: str) -> list[dict[str, Any]]:
        """What a destination that reads from the start holds: one line a profile, oldest change first."""
        await self.settle()
        lines, _ = await self.lines(destination)
        return [line for line in lines if line["op"] == "upsert"]

    async def feeds(self) -> dict[str, list[str]]:
        """What every destination may see, without what differs from vault to vault: to compare two of them."""
        return {name: _plain(await self.feed(name)) for name in self.vault.catalogue.contracts}

    async def traits(self, destination: str) -> dict[str, Any]:
        """The traits of the only profile that a destination sees."""
        (line,) = await self.feed(destination)
        return dict(line["traits"])

    # --- what is stored -----------------------------------------------------------------------------------------------

    async def rows(self, query: str, *args: Any) -> list[Any]:
        """Rows, as an outsider with the database would see them."""
        async with self.vault.database.hot() as connection:
            return await connection.fetch(query, *args)

    async def count(self, table: str) -> int:
        """How many rows a table has."""
        return int((await self.rows(f"SELECT count(*) FROM {table}"))[0][0])  # noqa: S608 - a name of ours

    async def dropped(self, source: str = "shop") -> dict[tuple[str, str, str], int]:
        """(type, name, reason) to count, as the source is shown."""
        rows = await self.rows(
            "SELECT type, name, reason, sum(count)::int FROM dropped WHERE source_id = $1 GROUP BY 1, 2, 3",
            self.sources[source].source_id,
        )
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    async def subject(self, value: str, kind: str = "user_id") -> UUID | None:
        """The subject that an identifier finds."""
        declared = self.vault.catalogue.identifiers[kind]
        normal = normalise(declared, value)
        assert normal is not None
        tag = identity_tag(self.vault.keyring, kind, normal)
        rows = await self.rows("SELECT subject_id FROM identity WHERE tag = $1", tag)
        return UUID(bytes=rows[0][0].bytes) if rows else None

    async def draft(self, value: str, kind: str = "user_id") -> SubjectDraft:
        """The subject that an identifier finds, as a writer reads it."""
        subject = await self.subject(value, kind)
        assert subject is not None
        return (await self.drafts())[subject]

    async def state(self, value: str, kind: str = "user_id") -> State:
        """The state of the subject that an identifier finds."""
        return (await self.draft(value, kind)).state

    async def stands(self, value: str, kind: str = "user_id") -> dict[str, str]:
        """Purpose name to the stand that the ledger comes to; undecided ones are left out."""
        subject = await self.subject(value, kind)
        assert subject is not None
        facts = fold(await self.ledger(subject)).facts
        names = self.vault.catalogue.purpose_by_number
        return {names[number].name: str(one.stand) for number, one in facts.items()}

    async def ledger(self, subject: UUID) -> tuple[Choice, ...]:
        """The choices of one subject, in order."""
        async with self.vault.database.hot() as connection:
            stored, _ = await profiles(connection, [subject], tools_of(self.vault).state_key)
            return (await ledgers(connection, {subject: stored[subject]}))[subject]

    async def drafts(self) -> dict[UUID, SubjectDraft]:
        """Every subject, as a writer reads it. All rows agree, or this fails."""
        tools = tools_of(self.vault)
        everyone = [UUID(bytes=row[0].bytes) for row in await self.rows("SELECT subject_id FROM subject")]
        async with self.vault.database.hot() as connection:
            stored, broken = await profiles(connection, everyone, tools.state_key)
        found, unfit = assemble(tools, stored)
        assert not broken, "rows do not agree with their state"
        assert not unfit, "compartments do not agree with their keys"
        return {subject: profile.member(subject) for subject, profile in found.items()}

    # --- what must always hold ----------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Read every record again: states, chains, masks, links, tags; open every value and event that has a key."""
        drafts = await self.drafts()
        for subject, draft in drafts.items():
            if not draft.state.fenced:
                await self._check_choices(subject, draft.state)
                self._check_values(draft)
                await self._check_events(draft)
        await self._check_people(drafts)

    async def _check_choices(self, subject: UUID, state: State) -> None:
        masks = fold(await self.ledger(subject)).masks()
        assert masks.granted == state.granted
        assert masks.refused == state.refused
        assert masks.blocked == state.blocked
        assert masks.objected == state.objected
        assert masks.expiries == state.expiries

    def _check_values(self, draft: SubjectDraft) -> None:
        opener = Opener(self.vault.keyring, draft.subject)
        for compartment in draft.compartments.values():
            for purpose in (*bits(compartment.wrapped.held), RIGHTS):
                opener.open(compartment.wrapped, purpose)
            for field in compartment:
                value = draft.read(compartment, field)
                assert value is not None or not compartment.wrapped.held
                if field == ACCOUNTS and value is not None:
                    assert write_accounts(read_accounts(value)) == value

    async def _check_events(self, draft: SubjectDraft) -> None:
        query = "SELECT purposes, generation, event_key, kind, ct FROM event WHERE subject_id = $1"
        opener = Opener(self.vault.keyring, draft.subject)
        for purposes, generation, key, kind, sealed in await self.rows(query, draft.subject):
            compartment = draft.compartments.get((purposes, generation))
            if compartment is not None and compartment.wrapped.held:
                purpose = next(bits(compartment.wrapped.held))
                opened = opener.open(compartment.wrapped, purpose)
                assert open_event(opened, key, kind, sealed, draft.tools.permit(purpose))

    async def _check_people(self, drafts: Mapping[UUID, SubjectDraft]) -> None:
        tags = {tag: subject for subject, draft in drafts.items() for tag in draft.tags}
        found = {row[0]: UUID(bytes=row[1].bytes) for row in await self.rows("SELECT tag, subject_id FROM identity")}
        assert tags == {tag: subject for tag, subject in found.items() if subject in drafts}
        for draft in drafts.values():
            assert draft.state.root in drafts
            assert drafts[draft.state.root].state.is_root
        belonging = await self.rows("SELECT subject_id FROM membership")
        assert {UUID(bytes=row[0].bytes) for row in belonging} <= set(drafts)
        keyed = await self.rows("SELECT subject_id FROM keys.subject_key")
        assert {UUID(bytes=row[0].bytes) for row in keyed} <= set(drafts)

    def journal(self) -> list[Any]:
        """Every narrowing on record outside the database, oldest first."""
        return list(self.vault.journal.read())

    async def audited(self, tag: Tag) -> list[Entry]:
        """The audit entries of this kind, whether or not they are leaves of the tree by now."""
        rows = await self.rows(
            "SELECT entry_id, leaf FROM audit_in UNION ALL SELECT entry_id, leaf FROM audit ORDER BY 1"
        )
        return [entry for row in rows if (entry := parse(row[1])).tag is tag]

    def now(self) -> Micros:
        """The time of this world."""
        return self.vault.clock.now()


def _plain(lines: list[dict[str, Any]]) -> list[str]:
    return sorted(
        json.dumps({k: v for k, v in line.items() if k not in {"id", "version"}}, sort_keys=True) for line in lines
    )
