"""Change whole profiles: read them, let a journey alter the drafts, commit, and do it again for those that lost a race."""

from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

from vault.consent.standing import fold
from vault.errors import Conflict, NotFound, Unreadable
from vault.flows.people.attempt import Tools
from vault.flows.people.commit import commit
from vault.flows.people.draft import SubjectDraft
from vault.flows.people.profile import ProfileDraft
from vault.flows.people.read import Stored, ledgers, moved_on, profiles
from vault.flows.people.write import Raced
from vault.flows.vault import Vault
from vault.keys import names
from vault.state.record import Writer

ATTEMPTS: Final = 20  # each loses only to somebody who wrote; twenty in a row mean a livelock worth an error


def tools_of(vault: Vault) -> Tools:
    """What drafts need, for one batch. The keys are those that the key store has now."""
    vault.keyring.refresh()
    key = vault.keyring.key(names.STATE)
    return Tools(vault.keyring, vault.gate, key, Writer(key), vault.pointers, vault.clock.now(), vault.keyring.turn)


def assemble(tools: Tools, stored: dict[UUID, Stored]) -> tuple[dict[UUID, ProfileDraft], set[UUID]]:
    """Drafts of every profile, by each member's subject id; and the subjects whose rows do not agree."""
    drafts: dict[UUID, list[SubjectDraft]] = {}
    broken: set[UUID] = set()
    for subject, one in stored.items():
        try:
            drafts.setdefault(one.state.root, []).append(SubjectDraft(tools, subject, one))
        except Unreadable:
            broken.add(one.state.root)
    found: dict[UUID, ProfileDraft] = {}
    for root, members in drafts.items():
        if root not in broken:
            profile = ProfileDraft(members)
            found.update((member.subject, profile) for member in profile.members)
    return found, {subject for subject, one in stored.items() if one.state.root in broken}


async def change_profiles(
    vault: Vault, subjects: Iterable[UUID], act: Callable[[ProfileDraft], None], actor: str
) -> dict[UUID, ProfileDraft]:
    """Let `act` alter the profile of each subject, once, and commit; answers the profiles as written, by root.

    Raises `NotFound` for a subject that is not there, `Unreadable` for one whose rows do not agree, `Conflict` when others
    kept winning. A profile that is being erased is left alone.
    """
    pending = set(subjects)
    done: dict[UUID, ProfileDraft] = {}
    for _ in range(ATTEMPTS):
        tools = tools_of(vault)
        try:
            found = await _read(vault, tools, pending)
        except Raced:
            continue
        distinct = {id(found[subject]): found[subject] for subject in pending}
        for group, profile in enumerate(distinct.values()):
            for member in profile.members:
                member.group = group
            if not profile.fenced:
                act(profile)
        try:
            lost = await commit(vault, tools, [m for p in distinct.values() for m in p.members], actor)
        except Raced:
            continue
        for group, profile in enumerate(distinct.values()):
            if group not in lost:
                done[profile.root.subject] = profile
        pending = {subject for subject in pending if found[subject].root.group in lost}
        if not pending:
            return done
    raise Conflict("Others kept changing this profile; try again.", code="retry")


async def _read(vault: Vault, tools: Tools, subjects: set[UUID]) -> dict[UUID, ProfileDraft]:
    """Drafts of these subjects' profiles, by member, with their standing. Raises `Raced` if somebody wrote meanwhile."""
    async with vault.database.hot() as connection:
        stored, broken = await profiles(connection, subjects, tools.state_key)
        try:
            choices = await ledgers(connection, stored)
        except Unreadable:
            if await moved_on(connection, stored):
                raise Raced from None
            raise
    found, unfit = assemble(tools, stored)
    if broken or unfit:
        raise Unreadable
    if not subjects <= found.keys():
        raise NotFound
    for subject, said in choices.items():
        found[subject].member(subject).standing = fold(said)
    return found
