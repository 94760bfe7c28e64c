"""Who is at the door? A secret becomes a source, a destination or a member of staff, or nobody.

Promises: one error for a secret that is missing, unknown, revoked or of the wrong kind (threats G12, G22); a disabled
holder is refused from the commit of the disabling on, since nothing is cached. Secrets are looked up by their SHA-256,
so the time of an answer tells nothing about them. A row that nobody with the vault's keys wrote admits nobody (ADR 0126).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from vault.destinations import store as destinations
from vault.errors import Forged, Unauthenticated
from vault.flows.trail import accusing
from vault.flows.vault import Vault
from vault.policy.actors import Actor
from vault.sources import store as sources
from vault.sources.store import Source
from vault.staff import store as staff

MAX_SECRET: Final = 200  # characters; ours have 47, and Segment's write keys 32


NO_SOURCE: Final = "Send the write key that `profile-vault sources add` printed."
NO_DESTINATION: Final = (
    "Send `Authorization: Bearer TOKEN`, with the token that `profile-vault destinations token NAME` printed."
)
NO_STAFF: Final = (
    "Send `Authorization: Bearer TOKEN`, with the token that `profile-vault staff add NAME --role ROLE --token`"
    " printed."
)


async def admit_source(vault: Vault, write_key: str | None) -> Source:
    """The source of this write key. Raises Unauthenticated."""
    secret = _fit(write_key, NO_SOURCE)
    async with _closed_to_forgers(vault, NO_SOURCE), vault.database.hot() as connection:
        found = await sources.by_write_key(connection, secret, vault.rows_key)
    if found is None:
        raise Unauthenticated(NO_SOURCE)
    return found


async def admit_destination(vault: Vault, token: str | None) -> str:
    """The name of the destination that carries this token, as its contract has it today. Raises Unauthenticated."""
    secret = _fit(token, NO_DESTINATION)
    async with _closed_to_forgers(vault, NO_DESTINATION), vault.database.hot() as connection:
        number = await destinations.find_destination(connection, secret, vault.rows_key)
    contract = None if number is None else vault.catalogue.contracts_by_number.get(number)
    if contract is None:  # a contract that left the policies takes its tokens with it
        raise Unauthenticated(NO_DESTINATION)
    return contract.name


async def admit_staff(vault: Vault, token: str | None) -> Actor:
    """The member of staff who carries this token, in their role. Raises Unauthenticated."""
    secret = _fit(token, NO_STAFF)
    async with _closed_to_forgers(vault, NO_STAFF), vault.database.hot() as connection:
        member = await staff.by_token(connection, secret, vault.rows_key)
    if member is None:
        raise Unauthenticated(NO_STAFF)
    return Actor(kind="staff", id=str(member.staff_id), role=member.role)


@asynccontextmanager
async def _closed_to_forgers(vault: Vault, hint: str) -> AsyncIterator[None]:
    """Who shows a secret whose row nobody with the key wrote is told what everybody with a wrong secret is told."""
    try:
        async with accusing(vault):
            yield
    except Forged:
        raise Unauthenticated(hint) from None


def _fit(secret: str | None, hint: str) -> str:
    if not secret or len(secret) > MAX_SECRET or not secret.isascii():
        raise Unauthenticated(hint)
    return secret
