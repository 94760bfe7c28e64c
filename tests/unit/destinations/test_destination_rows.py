"""Claims about tokens and webhooks in a real PostgreSQL: no secret is stored, and two workers do not overtake each other."""

from sqlalchemy import select

from vault.clock import DAY, Micros
from vault.destinations.store import (
    add_token,
    delivered,
    due_webhooks,
    failed,
    find_destination,
    remove_webhook,
    revoke_tokens,
    set_webhook,
    webhooks,
)
from vault.storage.parties import destination_token
from vault.storage.session import Database

NOW = Micros(1_795_465_242_000_000)
KEY = bytes(range(32))
CODE = bytes(32)
URL = "https://hooks.example.com/in?key=secret"


async def test_a_token_finds_its_destination_and_no_other_text_does(database: Database) -> None:
    async with database.begin() as conn:
        first, second = await add_token(conn, 1, NOW, KEY), await add_token(conn, 2, NOW, KEY)
        assert first != second
        assert await find_destination(conn, first, KEY) == 1
        assert await find_destination(conn, second, KEY) == 2
        for other in ("", first[:-1], first + "a", first.upper(), "pvd_"):
            assert await find_destination(conn, other, KEY) is None


async def test_only_a_hash_of_the_token_is_stored(database: Database) -> None:
    async with database.begin() as conn:
        token = await add_token(conn, 1, NOW, KEY)
        rows = (await conn.execute(select(destination_token))).all()
    assert token.encode() not in b"".join(bytes(row.token_hash) for row in rows)
    assert token not in str(rows)


async def test_revoked_tokens_open_nothing_and_new_ones_do(database: Database) -> None:
    async with database.begin() as conn:
        old, other = await add_token(conn, 1, NOW, KEY), await add_token(conn, 2, NOW, KEY)
        assert await revoke_tokens(conn, 1, NOW, KEY) == 1
        assert await revoke_tokens(conn, 1, NOW, KEY) == 0
        assert await find_destination(conn, old, KEY) is None
        assert await find_destination(conn, other, KEY) == 2
        assert await find_destination(conn, await add_token(conn, 1, NOW, KEY), KEY) == 1


async def test_a_new_webhook_begins_with_a_snapshot_and_so_does_a_new_url(database: Database) -> None:
    async with database.begin() as conn:
        await set_webhook(conn, 1, URL, NOW, CODE)
        [hook] = await webhooks(conn)
        assert (hook.url, hook.cursor, hook.failures) == (URL, None, 0)
        assert await delivered(conn, hook, "c1", NOW)
        await set_webhook(conn, 1, URL + "2", NOW, CODE)
        [hook] = await webhooks(conn)
        assert (hook.cursor, hook.delivered_at) == (None, None)


async def test_of_two_workers_one_moves_the_cursor(database: Database) -> None:
    async with database.begin() as conn:
        await set_webhook(conn, 1, URL, NOW, CODE)
        [hook] = await webhooks(conn)
        assert await delivered(conn, hook, "c1", NOW)
        assert not await delivered(conn, hook, "c9", NOW)
        assert not await failed(conn, hook, NOW)
        [moved] = await webhooks(conn)
        assert (moved.cursor, moved.failures, moved.delivered_at) == ("c1", 0, NOW)


async def test_a_failed_webhook_waits_and_a_disabled_one_is_never_due(database: Database) -> None:
    async with database.begin() as conn:
        for destination in (1, 2):
            await set_webhook(conn, destination, URL, NOW, CODE)
        one, two = await due_webhooks(conn, NOW)
        assert await failed(conn, one, Micros(NOW + 5))
        assert await failed(conn, two, NOW, disabled_at=NOW)
        assert await due_webhooks(conn, NOW) == []
        [due] = await due_webhooks(conn, Micros(NOW + DAY))
        assert (due.destination, due.failures) == (1, 1)
        assert not await delivered(conn, (await webhooks(conn))[1], "c1", NOW)


async def test_a_removed_webhook_is_gone(database: Database) -> None:
    async with database.begin() as conn:
        await set_webhook(conn, 1, URL, NOW, CODE)
        assert await remove_webhook(conn, 1)
        assert not await remove_webhook(conn, 1)
        assert await webhooks(conn) == []


async def test_a_webhook_does_not_print_its_url(database: Database) -> None:
    async with database.begin() as conn:
        await set_webhook(conn, 1, URL, NOW, CODE)
        assert "secret" not in repr(await webhooks(conn))
