"""Claims about cursors at the feed: whose they are, and what a wrong one is told (threats G15, H20)."""

import base64

import pytest

from tests.flows.feed_world import Reader, open_shop, ops, rows_of
from vault.changes.incarnation import renew
from vault.errors import Gone, Invalid, NotFound
from vault.flows.release.page import page
from vault.flows.vault import Vault


async def cursor_of(vault: Vault, destination: str) -> str:
    reader = Reader(vault, destination)
    await reader.read()
    assert reader.cursor is not None
    return reader.cursor


async def test_g15_a_cursor_with_any_letter_changed_is_refused(vault: Vault) -> None:
    cursor = await cursor_of(vault, "email-tool")
    for at in range(len(cursor)):
        changed = cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :]
        with pytest.raises(Invalid) as told:
            await page(vault, "email-tool", changed)
        assert told.value.reason == "cursor_invalid"


async def test_g15_what_is_no_cursor_at_all_is_refused_in_the_same_words(vault: Vault) -> None:
    cursor = await cursor_of(vault, "email-tool")
    body = base64.urlsafe_b64decode(cursor + "==")
    forged = [
        "0", "x" * 94, cursor[:-1], cursor + "A", f" {cursor}", f"{cursor}\n", cursor.swapcase(),
        base64.urlsafe_b64encode(body[:-32] + bytes(32)).decode().rstrip("="), "é" * 94,
    ]  # fmt: skip
    told = set()
    for one in forged:
        with pytest.raises(Invalid) as error:
            await page(vault, "email-tool", one)
        told.add(str(error.value))
    assert len(told) == 1


async def test_g15_a_cursor_of_another_destination_is_refused(vault: Vault) -> None:
    await (await open_shop(vault)).person("ada")
    for name in ("warehouse", "ad-platform", "support-desk"):
        with pytest.raises(Invalid):
            await page(vault, "email-tool", await cursor_of(vault, name))


async def test_h20_a_cursor_of_an_earlier_life_of_the_database_is_gone_and_a_snapshot_follows(vault: Vault) -> None:
    await (await open_shop(vault)).person("ada")
    cursor = await cursor_of(vault, "email-tool")
    async with vault.database.begin() as connection:
        vault.incarnation = await renew(connection)
    with pytest.raises(Gone) as told:
        await page(vault, "email-tool", cursor)
    assert told.value.reason == "cursor_gone"
    assert ops(await Reader(vault, "email-tool").read()) == ["reset", "upsert", "snapshot_end"]


async def test_an_unknown_destination_has_no_feed_and_leaves_no_trace(vault: Vault) -> None:
    await (await open_shop(vault)).person("ada")
    for name in ("nobody", "", "email-tool ", "EMAIL-TOOL", "../email-tool"):
        with pytest.raises(NotFound):
            await page(vault, name, None)
    assert await rows_of(vault, "SELECT 1 FROM disclosure") == []


async def test_no_limit_makes_a_page_of_nothing_or_of_everything(vault: Vault) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    for limit in (0, -5, 10**9):
        assert ops(await Reader(vault, "email-tool").page(limit)) == ["reset", "upsert", "snapshot_end", "cursor"]
