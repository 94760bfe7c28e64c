"""An operator who rotates every key and destroys what is left behind, again and again: a process of its own, for the storm."""

import asyncio
import logging

import structlog

from vault.bootstrap import open_vault
from vault.config import load
from vault.errors import VaultError
from vault.flows.epochs import destroy_epoch
from vault.flows.rotate import rotate
from vault.flows.vault import Vault
from vault.keys.names import purpose_of

RATE = 400  # people a second: it is to be in the middle of something when it is killed


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


async def main() -> None:
    """Until it is killed."""
    async with open_vault(load()) as vault:
        while True:
            await turn(vault)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(main())
