"""Where a destination's feed is pushed to: registered by an operator, checked at once and again at each connect.

Promises: an address in a network that nobody opened is refused now, not at the first delivery (threats H1); each
destination has a secret of its own, kept in the key store and told to whoever registers; one that is removed and
registered anew gets a new secret and a whole snapshot.
"""

import asyncio

from vault.destinations import store
from vault.destinations.address import resolve_target
from vault.destinations.webhook import address_code, show_secret
from vault.errors import Invalid, NotFound
from vault.flows.vault import Vault
from vault.keys import names


async def register(vault: Vault, destination: str, url: str) -> str:
    """Push to `url` from now on, and answer the secret that verifies what arrives.

    Raises NotFound for an unknown destination, Invalid for a URL that may not be reached.
    """
    number = number_of(vault, destination)
    try:
        await resolve_target(url, vault.settings.webhook_networks)
    except OSError:
        raise Invalid("The host of this URL has no address.", code="unreachable_url") from None
    name = names.webhook(destination)
    await asyncio.to_thread(vault.keyring.make, name)
    secret = vault.keyring.key(name)
    code = address_code(vault.keyring.key(names.PSEUDONYM), secret, number, url)
    async with vault.database.begin() as connection:
        await store.set_webhook(connection, number, url, vault.clock.now(), code)
    return show_secret(secret)


async def remove(vault: Vault, destination: str) -> None:
    """Push no more, and destroy the secret. Raises NotFound when nothing was pushed."""
    number = number_of(vault, destination)
    async with vault.database.begin() as connection:
        if not await store.remove_webhook(connection, number):
            raise NotFound("Nothing is pushed to this destination.")
    await asyncio.to_thread(vault.keyring.destroy, names.webhook(destination))


def number_of(vault: Vault, destination: str) -> int:
    """The destination's number. Raises NotFound, with the command that helps."""
    contract = vault.catalogue.contracts.get(destination)
    if contract is None:
        raise NotFound("The live policy has no such destination; `profile-vault destinations list` names them.")
    return contract.number
