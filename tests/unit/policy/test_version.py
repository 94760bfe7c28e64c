"""Versions in a real database: applied whole or not at all, numbered upwards, read back as they were applied."""

import pytest
from sqlalchemy import delete, func, select, update

from tests.fakes import FakeClock
from tests.policy.folder import edited, extended, shipped
from vault.canonical import canonical_json
from vault.errors import Conflict, PolicyError, Unreadable
from vault.policy import store, version
from vault.policy.version import Named, Version
from vault.storage.parties import policy_version
from vault.storage.session import Database


async def applied(database: Database, clock: FakeClock, files: dict[str, str]) -> Version:
    async with database.begin() as connection:
        return await version.apply(connection, files, "operator", clock.now())


async def live(database: Database, named: Named | None = None) -> tuple[Version, dict[str, str]] | None:
    async with database.begin() as connection:
        return await version.live(connection, named)


async def test_nothing_is_live_before_the_first(database: Database) -> None:
    assert await live(database) is None


async def test_what_was_applied_is_live_byte_for_byte(database: Database, clock: FakeClock) -> None:
    first = await applied(database, clock, shipped())
    assert first == Version(1, version.check(shipped()).catalogue.digest)
    assert await live(database) == (first, shipped())
    assert await applied(database, clock, shipped()) == first  # again changes nothing
    second = await applied(database, clock, extended("gate/rules.csv", "# a remark"))
    assert second.number == 2
    assert await live(database) == (second, extended("gate/rules.csv", "# a remark"))


@pytest.mark.parametrize(
    ("path", "old", "new", "says"),
    [
        ("purposes.toml", "gpc = true", "gcp = true", "did you mean"),
        ("gate/rules.csv", "p, d:support-desk, event:*, support, reveal, allow\n", "", "timeline"),
        ("purposes.toml", "number = 7", "number = 8", "had the number 7"),
        ("gate/rules.csv", "sha256:google, allow", "sha256:google, Allow", "no effect"),
    ],
)
async def test_what_does_not_hold_together_is_not_applied(
    database: Database, clock: FakeClock, path: str, old: str, new: str, says: str
) -> None:
    first = await applied(database, clock, shipped())
    with pytest.raises(PolicyError, match=says):
        await applied(database, clock, edited(path, old, new))
    assert await live(database) == (first, shipped())


async def test_e17_an_older_version_cannot_be_applied_again(database: Database, clock: FakeClock) -> None:
    await applied(database, clock, shipped())
    await applied(database, clock, extended("gate/rules.csv", "# tighter"))
    with pytest.raises(Conflict):
        await applied(database, clock, shipped())


async def test_e17_a_version_changed_in_the_database_does_not_open(database: Database, clock: FakeClock) -> None:
    await applied(database, clock, shipped())
    looser = edited("gate/rules.csv", "trait:email, *, reveal, deny", "trait:email, *, year, deny")
    async with database.begin() as connection:
        await connection.execute(update(policy_version).values(files=canonical_json(looser)))
    with pytest.raises(Unreadable):
        await live(database)
    async with database.begin() as connection:
        await connection.execute(update(policy_version).values(files=b"\xff"))
    with pytest.raises(Unreadable):
        await live(database)


def journal(*committed: Version, intended: Version | None = None) -> Named:
    """What a journal says of these."""
    meant = {} if intended is None else {intended.number: frozenset({intended.digest})}
    return Named({one.number: one.digest for one in committed}, meant)


async def test_e17_what_is_live_is_exactly_what_the_journal_names(database: Database, clock: FakeClock) -> None:
    first = await applied(database, clock, shipped())
    second = await applied(database, clock, extended("gate/rules.csv", "# tighter"))
    assert await live(database, journal(first, second)) is not None
    assert await live(database, journal(first, intended=second)) is not None  # a crash came behind its commit
    for other in (
        journal(first),
        journal(second),
        journal(first, Version(2, bytes(32))),
        journal(first, intended=Version(2, bytes(32))),
        journal(Version(1, bytes(32)), second),
        journal(first, second, Version(3, bytes(32))),
    ):
        with pytest.raises(Unreadable):
            await live(database, other)
    async with database.begin() as connection:
        await connection.execute(delete(policy_version).where(policy_version.c.number == 2))
    with pytest.raises(Unreadable):
        await live(database, journal(first, second))
    assert await live(database, journal(first, intended=second)) == (first, shipped())  # its commit never came


async def test_of_two_who_apply_at_once_one_is_told(database: Database, clock: FakeClock) -> None:
    await applied(database, clock, shipped())
    async with database.begin() as first:
        await version.apply(first, extended("gate/rules.csv", "# mine"), "operator", clock.now())
        async with database.begin() as second:
            rows = await second.scalar(select(func.count()).select_from(policy_version))
            assert rows == 1  # not seen before its commit
    with pytest.raises(Conflict):
        async with database.begin() as late:
            await store.add(late, 2, bytes(32), b"{}", "operator", clock.now())
