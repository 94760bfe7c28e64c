"""How a command gets a running vault, and gives it back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from vault.bootstrap import ProcessRole, open_vault
from vault.config import load
from vault.errors import ConfigError, Locked, VaultError
from vault.flows.failover import Known, known_of, while_whole
from vault.flows.losses import NOTHING, Accepted
from vault.flows.vault import Vault
from vault.storage import cluster

# Whoever meant a folder of their own must see that it was not found.
EXAMPLE: Final = "No `policies` folder is set, and none lies here: these are the policies of the example shop."

AGAIN: Final = 0.5  # seconds between looks at a key service that did not answer; each look has its own deadline

_log = structlog.get_logger("opening")
_Answer = TypeVar("_Answer")


def with_vault(
    journey: Callable[[Vault], Awaitable[_Answer]],
    *,
    create: bool = True,
    role: ProcessRole | None = None,
    accepted: Accepted = NOTHING,
    wait: bool = False,
) -> _Answer:
    """Open the vault by the settings, run `journey`, close it. Raises what the journey raises.

    `create` False: raises `ConfigError` (code `no_vault`) where an embedded vault would have to be made first, and makes
    nothing. An empty database that `database_url` names is not told apart. `role`: hold its keys only; None: all that open.
    `accepted`: what an officer gives up for lost. `wait`: while the vault is locked, try again until its key service answers,
    and begin the journey anew whenever the database was replaced.
    """
    settings = load()
    if not create and settings.embedded and not cluster.made(settings.data_dir):
        raise ConfigError(
            f"there is no vault in {settings.data_dir}; set PROFILE_VAULT_DATA_DIR or run a command that makes one"
            " (`sources add`, `serve`)",
            code="no_vault",
        )

    async def opened() -> _Answer:
        told = ""
        known: Known | None = None
        while True:
            try:
                async with open_vault(settings, role=role, accepted=accepted, known=known) as vault:
                    if not wait:
                        return await journey(vault)
                    try:
                        return await while_whole(vault, journey(vault))
                    finally:
                        known = known_of(vault)
            except VaultError as error:
                if not wait or (known is None and not isinstance(error, Locked)):
                    raise
                if str(error) != told:
                    told = str(error)
                    _log.error("start.locked", code=error.reason, message=told)
            await asyncio.sleep(AGAIN)

    return asyncio.run(opened())
