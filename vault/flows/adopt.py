"""Takes over the rows of a database from before they had codes: once, when the key `request` is made.

A key is made once (`vault.keys`), so nobody who empties a code later has it filled in again.
"""

from vault.audit import store as audit
from vault.catalogue.load import Catalogue
from vault.destinations import store as destinations
from vault.destinations.webhook import address_code
from vault.errors import NotFound
from vault.keys import names
from vault.keys.keystore import KeyStore
from vault.rights import store as requests
from vault.rights.store import Transaction


async def adopt(connection: Transaction, keystore: KeyStore, catalogue: Catalogue) -> None:
    """Requests, addresses of webhooks and waiting audit entries are believed as they stand, this once."""
    await audit.vouch_waiting(connection, newest(keystore, names.JOURNAL))
    await requests.adopt(connection, newest(keystore, names.REQUEST))
    for hook in await destinations.webhooks(connection):
        contract = catalogue.contracts_by_number.get(hook.destination)
        if contract is None:
            continue
        try:
            secret = newest(keystore, names.webhook(contract.name))
        except NotFound:
            continue
        code = address_code(newest(keystore, names.PSEUDONYM), secret, hook.destination, hook.url)
        await destinations.vouch_webhook(connection, hook, code)


def newest(keystore: KeyStore, name: str) -> bytes:
    """The newest key of that name, whatever role this process has: who makes keys can open them. Raises `NotFound`."""
    return max(keystore.held(name).items())[1].key
