"""An operator who rotates every key, destroys what is left behind and renews tags, again and again: a process of its own."""

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Final

import structlog

from vault.bootstrap import open_vault
from vault.config import load
from vault.errors import VaultError
from vault.flows.epochs import destroy_epoch
from vault.flows.retag import renew_tags
from vault.flows.rotate import rotate
from vault.flows.vault import Vault
from vault.keys.names import TOMBSTONE, index, purpose_of

RATE: Final = 400  # people a second: it is to be in the middle of something when it is killed


async def turn(vault: Vault) -> None:
    """One rotation of everything. What a database that just died does not let end, the next one goes on with."""
    names = [name for name in vault.keystore.names() if purpose_of(name) is not None]
    try:
        told = await rotate(vault, names, rate=RATE)
        assert not told.shut, f"{told.shut} wraps do not open"
        for name in names:
            for version in vault.keystore.versions(name):
                if version < told.epochs[name]:
                    await destroy_epoch(vault, name, version)
    except VaultError:
        await asyncio.sleep(0.2)


async def retag(vault: Vault, names: Sequence[str]) -> None:
    """New keys behind tags. An erasure that is under way is let pass: the next time will do."""
    for name in names:
        try:
            await renew_tags(vault, name)
        except VaultError:
            await asyncio.sleep(0.2)


async def main() -> None:
    """Until it is killed."""
    drawn = random.Random()  # not the storm's: what is killed is another process each time
    async with open_vault(load()) as vault:
        names = [index(kind.name) for kind in vault.catalogue.identifiers.values() if not kind.account] + [TOMBSTONE]
        while True:
            await retag(vault, drawn.sample(names, 2))
            await turn(vault)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(main())
