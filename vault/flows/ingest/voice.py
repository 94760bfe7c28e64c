"""What the messages of a body say about choices: their stamps, and whether one may be written into a ledger.

So the ledgers that a batch needs are read at once. Most of a batch carry the same stamp, and it is read once.
"""

from vault.catalogue.load import Catalogue
from vault.consent.ledger import Authority
from vault.consent.stamp import Speaker, Stamp, read_stamp, says_something_new
from vault.events.message import Message
from vault.flows.ingest.item import Item
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.profile import ProfileDraft
from vault.sources.store import Source


class Voices:
    """Those who speak in one body, all through one source."""

    __slots__ = ("_anybody", "_authority", "_catalogue", "_quiet", "_source", "_stamps")

    def __init__(self, catalogue: Catalogue, source: Source) -> None:
        """For a body of this source."""
        self._catalogue = catalogue
        self._source = source.source_id
        self._authority = Authority.SERVER if source.server else Authority.CLIENT
        self._anybody = Speaker(authority=self._authority, source=self._source)
        self._quiet: set[tuple[int, int, int]] = set()  # stamps, by identity, that say nothing new to such choices
        self._stamps: dict[int, tuple[object, Stamp | None]] = {}  # by identity, which `decode` keeps for equal ones

    def stamp(self, message: Message) -> Stamp | None:
        """What the message's stamp means under this catalogue; None if it carries none."""
        said = message.stamp
        if said is None:
            return None
        known = self._stamps.get(id(said))
        if known is None:  # with `said`, so that no other gets its identity
            known = self._stamps[id(said)] = (said, read_stamp(said, self._catalogue))
        return known[1]

    def speaker(self, item: Item) -> Speaker:
        """Who says it."""
        return Speaker(authority=self._authority, source=self._source, device=item.device)

    def says_new(self, item: Item, draft: SubjectDraft) -> bool:
        """May this message write a choice into this subject's ledger? Acts do, and stamps that say something new."""
        if item.act is not None or item.message.is_consent_change:
            return True
        return self.stamps_new(item.message, draft)

    def anything_new(self, item: Item, profile: ProfileDraft) -> bool:
        """As `says_new`, of any member."""
        members = profile.members
        return self.says_new(item, members[0]) or any(self.says_new(item, member) for member in members[1:])

    def stamps_new(self, message: Message, draft: SubjectDraft) -> bool:
        """Does the stamp say something new (never too few): who speaks makes no difference to that."""
        state = draft.state
        case = (id(message.stamp), state.granted, state.refused)  # all that it depends on
        if case in self._quiet:
            return False
        stamp = self.stamp(message)
        if stamp is None:
            return False
        new = says_something_new(self._catalogue, state, stamp, self._anybody)
        if not new:
            self._quiet.add(case)
        return new
