"""Which messages of a source may write a choice into a ledger: so that the ledgers that a batch needs are read at once."""

from vault.consent.ledger import Authority
from vault.consent.stamp import Speaker, Stamp, read_stamp, says_something_new
from vault.flows.ingest.item import Item
from vault.flows.ingest.world import SaysNew
from vault.flows.people.draft import SubjectDraft
from vault.flows.vault import Vault
from vault.sources.store import Source


def choices_of(vault: Vault, source: Source) -> SaysNew:
    """Which messages of this source may write a choice: acts do, and stamps that say something new (never too few)."""
    authority = Authority.SERVER if source.server else Authority.CLIENT
    stamps: dict[int, Stamp | None] = {}

    def says_new(item: Item, draft: SubjectDraft) -> bool:
        if item.act is not None or item.message.is_consent_change:
            return True
        if item.index not in stamps:
            stamps[item.index] = read_stamp(item.message.stamp, vault.catalogue)
        speaker = Speaker(authority=authority, source=source.source_id, device=item.device)
        return says_something_new(vault.catalogue, draft.state, stamps[item.index], speaker)

    return says_new
