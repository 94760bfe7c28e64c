"""Staff and their tokens on a real database."""

import pytest

from tests.fakes import FakeClock
from vault.errors import Conflict, NotFound
from vault.staff import store
from vault.storage.session import Database

KEY = bytes(range(32))


async def test_a_token_finds_its_member_and_is_not_in_the_database(database: Database, clock: FakeClock) -> None:
    async with database.begin() as connection:
        ada = await store.add(connection, "ada", "officer", now=clock.now(), key=KEY)
        token = await store.add_token(connection, ada.staff_id, now=clock.now(), key=KEY)
        assert await store.by_token(connection, token, KEY) == ada
        assert await store.by_token(connection, token[:-1], KEY) is None
    async with database.hot() as connection:
        stored = str(await connection.fetch("SELECT staff_token::text FROM staff_token"))
    assert token.removeprefix(store.PREFIX) not in stored


async def test_a_disabled_member_and_a_revoked_token_are_refused(database: Database, clock: FakeClock) -> None:
    async with database.begin() as connection:
        ada = await store.add(connection, "ada", "officer", now=clock.now(), key=KEY)
        bob = await store.add(connection, "bob", "auditor", now=clock.now(), key=KEY)
        first = await store.add_token(connection, ada.staff_id, now=clock.now(), key=KEY)
        other = await store.add_token(connection, bob.staff_id, now=clock.now(), key=KEY)
        assert await store.revoke_tokens(connection, ada.staff_id, now=clock.now(), key=KEY) == 1
        again = await store.add_token(connection, ada.staff_id, now=clock.now(), key=KEY)
        assert await store.by_token(connection, first, KEY) is None
        assert await store.by_token(connection, again, KEY) == ada
        await store.disable(connection, "ada", now=clock.now(), key=KEY)
        assert await store.by_token(connection, again, KEY) is None
        assert await store.by_token(connection, other, KEY) == bob
        listed = [(row.member.name, row.disabled_at) for row in await store.everyone(connection)]
        assert listed == [("ada", clock.now()), ("bob", None)]


async def test_a_name_is_given_once(database: Database, clock: FakeClock) -> None:
    async with database.begin() as connection:
        await store.add(connection, "ada", "officer", now=clock.now(), key=KEY)
        with pytest.raises(Conflict):
            await store.add(connection, "ada", "support", now=clock.now(), key=KEY)
        with pytest.raises(NotFound):
            await store.disable(connection, "bob", now=clock.now(), key=KEY)
