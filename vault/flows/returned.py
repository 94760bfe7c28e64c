"""Destroyed epochs that an older copy of the key store brought back: destroyed again at the start, or told.

A copy of before has the key and not the word that it went, so certificates of erasure would become false unseen (threats D6,
H8). The journal lies elsewhere and keeps that word. Promises: an epoch that it calls destroyed goes again, by the same steps
as the first time, by a process that holds everything, while no wrap needs it and none is made with it. Where one does, the
data, too, is of before: nobody's values are made unreadable by a start, and /readyz, `doctor` and `keys status` say it.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from vault.audit.entry import Detail, Tag
from vault.clock import Micros
from vault.errors import Unreadable, VaultError
from vault.flows.epochs import destroy_key, retire_service, still_named
from vault.flows.trail import leave
from vault.flows.vault import Vault
from vault.journal.narrowing import EpochDestroyed, Narrowing
from vault.keys import names as named
from vault.keys.history import History
from vault.keys.keystore import KeyStore
from vault.storage.session import raw

Epoch = tuple[int, int]  # purpose, epoch
Gone = dict[Epoch, Micros]  # when it was destroyed
ACTOR = "vault"


def noting(narrowings: Iterable[Narrowing], gone: Gone) -> Iterator[Narrowing]:
    """Passes everything on, and keeps in `gone` which epochs were destroyed, and when."""
    for one in narrowings:
        if isinstance(one, EpochDestroyed):
            gone[one.purpose, one.epoch] = one.at
        yield one


def returned(store: KeyStore, gone: Mapping[Epoch, Micros]) -> list[tuple[str, int]]:
    """(name, epoch) of those that the key store has, in order. A file that cannot be read is told elsewhere.

    A key that was made later is another one: a copy of before the rotation gives its number once more.
    """
    found = []
    for purpose in sorted({purpose for purpose, _ in gone}):
        name = named.epochs(purpose)
        try:
            found += [
                (name, epoch) for epoch, made in store.made(name).items() if made <= gone.get((purpose, epoch), -1)
            ]
        except Unreadable:
            continue
    return found


async def destroy_returned(vault: Vault, *, able: bool) -> None:
    """Every start, once the journal was replayed. `able`: this process holds everything."""
    if not able:
        return
    await _remember(vault)
    for name, epoch in await asyncio.to_thread(returned, vault.keystore, vault.gone_epochs):
        try:
            done = await _destroy_again(vault, name, epoch)
        except (VaultError, OSError) as error:  # a folder that may not be written: told by who asks
            vault.log.warning("key_epoch.not_destroyed", name=name, epoch=epoch, fault=type(error).__name__)
        else:
            if done:
                vault.log.warning("key_epoch.destroyed_again", name=name, epoch=epoch)


async def _remember(vault: Vault) -> None:
    """What went before the journal was told of such, or while another journal was in its place."""
    fresh: list[Narrowing] = []
    for one in await asyncio.to_thread(History(vault.settings.keyring).destroyed):
        purpose = named.purpose_of(one.name)
        if purpose is None or (purpose, one.version) in vault.gone_epochs:
            continue
        if one.version not in vault.keystore.versions(one.name):  # else it was written down, and did not go
            fresh.append(EpochDestroyed(Micros(one.destroyed_at), purpose, one.version))
    if fresh:
        await vault.journal.append(fresh)
        list(noting(fresh, vault.gone_epochs))


async def _destroy_again(vault: Vault, name: str, epoch: int) -> bool:
    """False where it takes new wraps, or a wrap needs it."""
    purpose = named.purpose_of(name)
    if purpose is None or epoch >= vault.keyring.oldest(name):
        return False
    history = History(vault.settings.keyring)
    async with vault.database.begin() as connection:
        found = await still_named(vault, await raw(connection), purpose, epoch)
        if found.opening:
            return False
        detail: Detail = {"name": name, "epoch": epoch, "shut": found.shut, "again": 1}
        await leave(vault, connection, Tag.KEY_EPOCH_DESTROYED, ACTOR, detail)
    left_at = history.left_at(name, epoch) or vault.gone_epochs[purpose, epoch]
    known = await asyncio.to_thread(destroy_key, vault, history, name, epoch, left_at)
    await asyncio.to_thread(retire_service, vault, history, known)
    return True
