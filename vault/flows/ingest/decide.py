"""What may be stored of a message: the catalogue, its own choices, its stamp, what is permitted now; in that order.

Choices that a message carries are written first and count for it. Each message ends in a verdict; what is dropped leaves a
dedup row and a count, nothing else.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from vault.catalogue.fields import GROUP, Event, Trait
from vault.catalogue.numbers import bits
from vault.clock import day_of
from vault.consent.act import Said, act_entries, carried_entries, said_by_change
from vault.consent.decision import meet
from vault.consent.ledger import Decision, How
from vault.consent.stamp import Speaker, Stamp, stamp_entries
from vault.errors import TooLarge, Unreadable
from vault.events.message import SENSITIVE, Message, fit_name
from vault.flows.ingest.account import store_account
from vault.flows.ingest.item import Act, Dropped, Item, Named
from vault.flows.ingest.resolve import Place, resolve
from vault.flows.ingest.seal import store_event
from vault.flows.ingest.trace import check_failed, grant_ignored, voice_of
from vault.flows.ingest.values import CLIENT, SERVER, known_alone, store_identifier, store_trait
from vault.flows.ingest.verdict import Oversized, Unfit, Verdict
from vault.flows.ingest.voice import Voices
from vault.flows.ingest.world import World
from vault.flows.people.choices import take, write_entries
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.profile import ProfileDraft
from vault.flows.people.write import NOBODY
from vault.flows.vault import Vault
from vault.identity.graph import Rule
from vault.profile.typed import fits
from vault.profile.values import Provenance
from vault.sources.dropped import Drop, property_of
from vault.sources.store import Source

if TYPE_CHECKING:
    from uuid import UUID


class Decider:
    """Decides the messages of one batch, in order, on one world."""

    def __init__(self, vault: Vault, source: Source, world: World, voices: Voices, refused: Mapping[int, str]) -> None:
        """One attempt: a lost race makes a new one. `refused` are messages by index that went over a limit, and its code."""
        self.vault = vault
        self.catalogue = vault.catalogue
        self.source = source
        self.world = world
        self.voices = voices
        self.refused = refused
        self.rows = world.tools.rows
        self._voice = voice_of(vault, source.source_id, world.tools.now)
        self._turns = vault.turns
        self._noted: list[Drop] = []
        self._touched: dict[int, ProfileDraft] = {}
        self._reported: set[UUID] = set()
        self._allowed: dict[int, tuple[ProfileDraft, int, int, int]] = {}  # by id: it, its members, alterations, mask

    async def decide(self, items: list[Item]) -> list[Verdict]:
        """A verdict for each item; the drafts of the world then hold what is to be written.

        May raise `LedgerNeeded`, `Unfit` or `Oversized`: then it is decided again, knowing that.
        """
        verdicts = [one async for one in self._turns.between(map(self._noting, items))]
        self._judge()
        for verdict in verdicts:
            if verdict.fresh:
                owner = NOBODY if verdict.profile is None else verdict.profile.root
                self.rows.dedup.append((owner, verdict.item.key, verdict.item.digest, day_of(self.world.tools.now)))
        return verdicts

    def _judge(self) -> None:
        """Judge the audiences of everyone who changed."""
        current = [self.world.people.get(known.root.subject, known) for known in self._touched.values()]
        for profile in {id(one): one for one in current}.values():
            if any(member.changed for member in profile.members):
                allowed = meet(self.catalogue, (member.state for member in profile.members), self.world.tools.now)
                try:
                    self.vault.audiences.judge(profile, allowed)
                except Unreadable:
                    raise Unfit(member.subject for member in profile.members) from None

    def _noting(self, item: Item) -> Verdict:
        self._noted = []
        try:
            verdict = self._one(item)
        except Unreadable:  # a value, a key or a ledger that does not agree: whoever is named is withheld
            named = [profile for one in item.named if (profile := self.world.profile_of(one.tag)) is not None]
            raise Unfit(member.subject for profile in named for member in profile.members) from None
        except TooLarge as error:
            raise Oversized(item.index, error.reason) from None
        return verdict._replace(noted=tuple(self._noted)) if self._noted else verdict

    def _one(self, item: Item) -> Verdict:
        known = self.world.seen.get(item.key)
        if known is not None:
            code = "duplicate" if known == item.digest else "id_conflict"
            if code == "id_conflict":
                check_failed(self.rows, self._voice, "message_id", None)
            return self._drop(item, code, None, fresh=False)
        self.world.seen[item.key] = item.digest
        message = item.message
        declared = self.refused.get(item.index) or self._declared(item)
        if isinstance(declared, str):
            return self._drop(item, declared)
        objected = 0
        for named in item.named:
            grave = self.world.graves.get(named.tag)
            if grave is not None and (grave.suppress or message.said_at < grave.until):
                return self._drop(item, "suppressed" if grave.suppress else "late_after_erasure")
            objected |= grave.objected if grave is not None else 0
        place = resolve(self.vault, self.source, self.world, item)
        if place == "integrity":  # not forgotten: it may be sent again when the rows were mended
            self._audit_broken(item)
            return self._drop(item, place, fresh=False)
        if isinstance(place, str):
            return self._drop(item, "late_after_erasure" if place == "erasing" else place)
        return self._placed(item, place, declared, objected)

    def _placed(self, item: Item, place: Place, declared: Event | None, objected: int) -> Verdict:
        message, author = item.message, place.author
        if not author.fresh:
            self._touched[id(place.profile)] = place.profile
        if objected and author.fresh and not author.new_choices:
            entries = carried_entries(self.catalogue, objected, message.said_at, self.world.tools.now)
            write_entries(self.catalogue, author, entries)
        stamp = self.voices.stamp(message)
        self._choices(item, place, stamp)
        if item.act is not None or message.is_consent_change:
            self._admit(item, place, 0)
            return Verdict(item, None, place.profile, fresh=True)
        allowed = self._collectable(place.profile) & ~(stamp.denies if stamp is not None else 0)
        if declared is not None and not declared.purposes & allowed:
            if author.new_choices:  # what is not stored teaches nobody anything; choices must be found again
                self._admit(item, place, allowed)
            kept = self.world.people.get(author.subject)
            return self._drop(item, "no_choice", kept, purposes=self.catalogue.names(declared.purposes))
        self._admit(item, place, allowed)
        if declared is not None:
            self._count_properties(message, declared)
            stored_for = declared.purposes & allowed
            if item.account is not None:
                self._account(item, place, declared, allowed)
                return Verdict(item, None, place.profile, fresh=True, purposes=stored_for)
            self._noted += store_event(author, message, declared, item.key, stored_for, self.catalogue)
            return Verdict(item, None, place.profile, fresh=True, purposes=stored_for)
        stored_for = self._traits(item, place, allowed) if message.type == "identify" else 0
        return Verdict(item, None, place.profile, fresh=True, purposes=stored_for)

    # --- the catalogue ----------------------------------------------------------------------------------------------

    def _declared(self, item: Item) -> Event | str | None:
        """The event as declared; None for calls that leave no event; or why it is not stored."""
        message = item.message
        if message.type in {"identify", "alias"} or message.is_consent_change:
            return None  # acts come as an identify without traits
        event = self.catalogue.event(message.type, message.name or "")
        if event is None:
            return "unlisted"
        if event.type == GROUP and item.account is None:
            return "no_account_kind" if self.catalogue.account_kind is None else "unfit_group_id"
        return event if event.authority == "any" or self.source.server else "server_only"

    def _count_properties(self, message: Message, event: Event) -> None:
        for name in message.traits if event.type == GROUP else message.properties:
            if name not in event.properties:
                kind = property_of(event.type, event.name if event.sensitivity == "normal" else SENSITIVE)
                self._noted.append(Drop(kind, _countable(name, event), "unlisted"))

    # --- choices ----------------------------------------------------------------------------------------------------

    def _choices(self, item: Item, place: Place, stamp: Stamp | None) -> None:
        """Write what the message says of purposes: an act decides, a stamp mostly only limits."""
        author, message = place.author, item.message
        act = item.act
        if act is None and stamp is not None:
            if message.is_consent_change:
                act = Act(How.CHANGE_EVENT, said_by_change(stamp))
            elif self.voices.stamps_new(message, author):
                self._take_stamp(item, place, stamp)
        if act is not None:
            speaker = self.voices.speaker(item)
            self._act(item, place.profile, author, act, speaker)
            if place.claim is not None:
                self._act_on_claim(item, place, place.claim, act, speaker)
        elif place.claim is not None:
            self._echo(item, place, place.claim, self.voices.speaker(item))

    def _take_stamp(self, item: Item, place: Place, stamp: Stamp) -> None:
        entries = stamp_entries(
            self.catalogue,
            place.author.standing,
            stamp,
            self.voices.speaker(item),
            said_at=item.message.said_at,
            received_at=item.message.received_at,
            event_key=item.key,
        )
        take(self.catalogue, place.profile, place.author, entries)

    def _echo(self, item: Item, place: Place, claim: ProfileDraft, speaker: Speaker) -> None:
        """What the device has refused counts for the profile that it names: it blocks there (design section 7)."""
        known = claim.root.state
        refused = place.author.state.refused & ~(known.refused | known.blocked | known.objected)
        if refused:
            said = tuple(Said(purpose=number, decision=Decision.DENIED) for number in bits(refused))
            self._act_on_claim(item, place, claim, Act(How.CHANGE_EVENT, said), speaker)

    def _act_on_claim(self, item: Item, place: Place, claim: ProfileDraft, act: Act, speaker: Speaker) -> None:
        """Write an act about the profile that a client source merely names, together with the device's own or not at all."""
        self._act(item, claim, claim.root, act, msgspec.structs.replace(speaker, claimed=True))
        self.world.join(claim, place.profile)
        self._touched[id(claim)] = claim

    def _act(self, item: Item, profile: ProfileDraft, author: SubjectDraft, act: Act, speaker: Speaker) -> None:
        """Write an act. Of a profile that a client source merely names a refusal blocks, and a grant does nothing."""
        outcome = act_entries(
            self.catalogue,
            author.standing,
            act.said,
            speaker,
            how=act.how,
            said_at=item.message.said_at,
            received_at=item.message.received_at,
            minor=author.state.minor,
            event_key=item.key,
        )
        proofs = {
            digest: sealed
            for digest, sealed in zip((s.evidence for s in act.said), act.evidence, strict=False)
            if sealed
        }
        take(self.catalogue, profile, author, outcome.entries, proofs)
        if outcome.ignored:
            grant_ignored(self.rows, self._voice, author.subject, outcome.ignored)
            author.touched = True  # its rows are written with it

    def _collectable(self, profile: ProfileDraft) -> int:
        """What may be taken in now for this profile: a restriction stops use, not sealing."""
        members = profile.members
        altered = members[0].altered if len(members) == 1 else sum([member.altered for member in members])
        known = self._allowed.get(id(profile))
        if known is not None and known[:3] == (profile, len(members), altered):  # held, so that no other has its id
            return known[3]
        mask = self._collected(profile)
        self._allowed[id(profile)] = (profile, len(members), altered, mask)
        return mask

    def _collected(self, profile: ProfileDraft) -> int:
        states = [
            msgspec.structs.replace(member.state, restricted=False) if member.state.restricted else member.state
            for member in profile.members
        ]
        return meet(self.catalogue, states, self.world.tools.now)

    # --- people -----------------------------------------------------------------------------------------------------

    def _admit(self, item: Item, place: Place, allowed: int) -> None:
        """Keep the profile in the world; give it the identifiers that are new, and the claim."""
        profile, author = place.profile, place.author
        if id(profile) not in self._touched:  # else it is known: nobody is touched before
            self.world.admit(profile)
            self._touched[id(profile)] = profile
        allowed = allowed or self._collectable(profile)
        # Of servers only: order numbers can be guessed, and a browser would be found by everybody's (threats B1, B11).
        finding = [n for n in item.named if not n.kind.joins and n.tag not in self.world.owners and self.source.server]
        for named in (*place.attach, *finding):
            self._attach(item, place, named, allowed)
        for named in item.named:
            if named.kind.joins and named.tag in author.tags:
                mask = named.kind.purposes & allowed
                if mask and not known_alone(profile.members, author, named.kind, mask):
                    self._store_identifier(item, place, named, mask)
        if place.claim is not None and author.state.claimed != place.claim.root.subject and author.state.is_root:
            root = place.claim.root.subject
            author.alter(claimed=root)
            kind = next(n.kind.number for n in item.named if not n.own and n.kind.joins)
            evidence = (item.key, self.source.source_id, int(Rule.CLAIMED), kind, False, self.world.tools.now)
            author.rows.links.append((author, root, *evidence))

    def _attach(self, item: Item, place: Place, named: Named, allowed: int) -> None:
        author = place.author
        mask = named.kind.purposes & allowed
        if not mask:
            return
        self.world.owners[named.tag] = author.subject
        author.tags[named.tag] = named.kind.number
        author.rows.identity.append(
            (author, named.tag, self.world.tools.pointers.make(named.tag, author.subject.bytes))
        )
        if self.world.graves.setdefault(named.tag, None) is None:
            author.rows.no_grave.append((author, self.world.stone_of(named)))
        facts = (named.kind.number, self.source.source_id, item.message.said_at, True)
        author.rows.identifiers.append((author, named.tag, *facts))
        if named.kind.joins and not named.kind.device_access and not author.state.identified:
            author.alter(identified=True)
        self._store_identifier(item, place, named, mask)

    def _store_identifier(self, item: Item, place: Place, named: Named, mask: int) -> None:
        provenance = Provenance(self.source.source_id, item.key, SERVER, item.message.said_at)
        store_identifier(place.profile.members, place.author, named.kind, named.value, provenance, mask)

    # --- traits -----------------------------------------------------------------------------------------------------

    def _traits(self, item: Item, place: Place, allowed: int) -> int:
        """Store what may be stored of the traits; answers the mask of the purposes that anything was stored for."""
        stored_for = 0
        message = item.message
        authority = SERVER if self.source.server else CLIENT
        provenance = Provenance(self.source.source_id, item.key, authority, message.said_at)
        for name, raw in message.traits.items():
            trait = self.catalogue.traits.get(name)
            reason = self._why_not(trait, raw)
            if trait is None or reason is not None:
                self._noted.append(Drop("trait", _countable(name, trait), reason or "unlisted"))
                continue
            mask = trait.purposes & allowed
            if trait.sensitivity == "special":
                mask &= self._explicit(place)
            if store_trait(place.profile.members, place.author, trait, raw, provenance, mask):
                stored_for |= mask
            else:
                self._noted.append(Drop("trait", _countable(name, trait), "no_choice"))
        return stored_for

    def _why_not(self, trait: Trait | None, raw: bytes) -> str | None:
        if trait is None:
            return "unlisted"
        if trait.authority == "server" and not self.source.server:
            return "server_only"
        return None if fits(trait.type, raw) else "wrong_type"

    def _explicit(self, place: Place) -> int:
        """Purposes for which special data may be used: those whose condition is explicit consent, given by an act (Art. 9)."""
        granted = place.author.explicit
        conditions = (p.mask for p in self.catalogue.purposes.values() if p.art9 == "a")
        return granted & sum(conditions)

    def _account(self, item: Item, place: Place, event: Event, allowed: int) -> None:
        """Store what a group call says of its account, and that the person belongs to it."""
        mask = event.purposes & allowed & (self._explicit(place) if event.sensitivity == "special" else -1)
        self._noted += store_account(self.source, place.profile.members, place.author, item, event, mask, allowed)

    # --- what is not stored -----------------------------------------------------------------------------------------

    def _drop(
        self,
        item: Item,
        code: str,
        profile: ProfileDraft | None = None,
        *,
        purposes: tuple[str, ...] = (),
        fresh: bool = True,
    ) -> Verdict:
        name = item.message.name if item.message.type in {"track", "page", "screen"} else item.message.type
        if code != "duplicate":
            event = self.catalogue.event(item.message.type, name or "")
            self._noted.append(Drop(item.message.type, _countable(name, event), code))
        return Verdict(item, Dropped(item.index, code, purposes), profile, fresh)

    def _audit_broken(self, item: Item) -> None:
        """Once a batch for each person of whom rows do not agree (promise 3)."""
        for named in item.named:
            subject = self.world.owners.get(named.tag)
            if subject is not None and subject not in self.world.people and subject not in self._reported:
                self._reported.add(subject)
                check_failed(self.rows, self._voice, "profile", subject)
            pointed = self.world.forged.get(named.tag)
            if pointed is not None and pointed not in self._reported:
                self._reported.add(pointed)
                check_failed(self.rows, self._voice, "identity", pointed)


def _countable(name: str | None, declared: Event | Trait | None) -> str:
    """A name as a counter may hold it: a fit one, and not that of anything special (promise 1)."""
    return SENSITIVE if declared is not None and declared.sensitivity == "special" else fit_name(name)
