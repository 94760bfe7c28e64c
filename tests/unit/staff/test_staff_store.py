"""Staff and their tokens on a real database."""

import pytest

from tests.fakes import FakeClock
from vault.errors import Conflict, NotFound
from vault.staff import store
from vault.storage.session import Database


async def test_a_token_finds_its_member_and_is_not_in_the_database(database: Database, clock: FakeClock) -> None:
    async with database.begin() as connection:
        ada = await store.add(connection, "ada", "officer", now=clock.now())
        token = await store.add_token(connection, ada.staff_id, now=clock.now())
        assert await store.by_token(connection, token) == ada
        assert await store.by_token(connection, token[:-1]) is None
    async with database.hot() as connection:
        stored = str(await connection.fetch("SELECT staff_token::text FROM staff_token"))
    assert token.removeprefix(store.PREFIX) not in stored


async def test_a_disabled_member_and_a_revoked_token_are_refused(database: Database, clock: FakeClock) -> None:
    async with database.begin() as connection:
        ada = await store.add(connection, "ada", "officer", now=clock.now())
        bob = await store.add(connection, "bob", "auditor", now=clock.now())
        first = await store.add_token(connection, ada.staff_id, now=clock.now())
        other = await store.add_token(connection, bob.staff_id, now=clock.now())
        assert await store.revoke_tokens(connection, ada.staff_id, now=clock.now()) == 1
        again = await store.add_token(connection, ada.staff_id, now=clock.now())
        assert await store.by_token(connection, first) is None
        assert await store.by_token(connection, again) == ada
        await store.disable(connection, "ada", now=clock.now())
        assert await store.by_token(connection, again) is None
        assert await store.by_token(connection, other) == bob
        listed = [(row.member.name, row.disabled_at) for row in await store.everyone(connection)]
        assert listed == [("ada", clock.now()), ("bob", None)]


async def test_a_name_is_given_once(database: Database, clock: FakeClock) -> None:
    async with database.begin() as connection:
        await store.add(connection, "ada", "officer", now=clock.now())
        with pytest.raises(Conflict):
            await store.add(connection, "ada", "support", now=clock.now())
        with pytest.raises(NotFound):
            await store.disable(connection, "bob", now=clock.now())
