"""How a command gets a running vault, and gives it back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from vault.bootstrap import open_vault
from vault.config import load
from vault.flows.vault import Vault

_Answer = TypeVar("_Answer")


def with_vault(journey: Callable[[Vault], Awaitable[_Answer]]) -> _Answer:
    """Open the vault by the settings, run `journey`, close it. Raises what the journey raises."""

    async def opened() -> _Answer:
        async with open_vault(load()) as vault:
            return await journey(vault)

    return asyncio.run(opened())
