"""Claims about disclosure rows in a real PostgreSQL: a page at once, read back exactly, erased without a trace."""

from uuid import UUID

from vault.clock import Micros
from vault.disclosures.held import Held, after_removal, after_upsert
from vault.disclosures.record import Released, pack_detail
from vault.disclosures.store import (
    Page,
    Row,
    acknowledge,
    change_held,
    erase,
    held_by,
    held_everywhere,
    history,
    write_page,
)
from vault.storage.session import Database, raw

ADA, BOB, EVE = (UUID(f"019aa3b0-0000-7000-8000-00000000000{n}") for n in (1, 2, 3))
KEY = bytes(range(32))
NOW = Micros(1_795_465_242_000_000)
EMAIL_TOOL, AD_PLATFORM = 2, 3
LEFT = (Released(6, 1, 7, ((3, 0x100), (0x4002, 0x100))),)


def page(number: int, destination: int = EMAIL_TOOL, at: Micros = NOW) -> Page:
    return Page(destination, UUID(int=number), at, 1)


async def send(database: Database, sheet: Page, number: int, *people: UUID) -> None:
    held = [after_upsert(Held(one, sheet.destination), frozenset((3, 0x4002)), number) for one in people]
    async with database.begin() as conn:
        await write_page(
            await raw(conn), sheet, [Row(one, number, bytes(16), pack_detail(LEFT)) for one in people], held
        )


async def test_what_left_is_on_record_by_recipient_fields_purpose_basis_time_and_transform(database: Database) -> None:
    await send(database, page(1), 10, BOB, ADA)
    await send(database, page(2, AD_PLATFORM, Micros(NOW + 5)), 11, ADA)
    async with database.begin() as conn:
        found = await history(conn, [ADA])
    assert [(one.destination, one.at, one.number, one.policy, one.page.int) for one in found] == [
        (EMAIL_TOOL, NOW, 10, 1, 1),
        (AD_PLATFORM, NOW + 5, 11, 1, 2),
    ]
    assert {one.released for one in found} == {LEFT}


async def test_the_state_of_a_recipient_follows_its_lines_and_nobody_elses(database: Database) -> None:
    await send(database, page(1), 10, ADA, BOB)
    await send(database, page(2, AD_PLATFORM), 11, ADA)
    async with database.begin() as conn:
        before = (await held_by(await raw(conn), EMAIL_TOOL, [ADA]))[ADA]
        await change_held(await raw(conn), EMAIL_TOOL, [after_removal(before, 12, "merged", BOB)])
    async with database.begin() as conn:
        held = await held_by(await raw(conn), EMAIL_TOOL, [ADA, BOB, EVE])
        everywhere = await held_everywhere(conn, [ADA])
    assert held[ADA] == after_removal(before, 12, "merged", BOB)
    assert sorted(held[BOB].fields) == [3, 0x4002]
    assert EVE not in held
    assert [(one.destination, sorted(one.fields)) for one in everywhere] == [
        (EMAIL_TOOL, []),
        (AD_PLATFORM, [3, 0x4002]),
    ]


async def test_an_empty_page_writes_nothing(database: Database) -> None:
    await send(database, page(1), 10)
    async with database.begin() as conn:
        assert await history(conn, [ADA, BOB]) == []


async def test_only_what_is_open_is_acknowledged_and_once(database: Database) -> None:
    await send(database, page(1), 10, ADA, BOB)
    async with database.begin() as conn:
        state = await held_by(await raw(conn), EMAIL_TOOL, [ADA])
        await change_held(await raw(conn), EMAIL_TOOL, [after_removal(state[ADA], 12, "withdrawn")])
    async with database.begin() as conn:
        assert await acknowledge(conn, AD_PLATFORM, [ADA], NOW, KEY) == 0
        assert await acknowledge(conn, EMAIL_TOOL, [BOB, ADA], NOW, KEY) == 1
        assert await acknowledge(conn, EMAIL_TOOL, [ADA], Micros(NOW + 1), KEY) == 0
        held = await held_by(await raw(conn), EMAIL_TOOL, [ADA, BOB])
    assert held[ADA].acknowledged_at == NOW
    assert held[BOB].acknowledged_at is None


async def test_an_erasure_leaves_the_others_alone(database: Database) -> None:
    await send(database, page(1), 10, ADA, BOB)
    async with database.begin() as conn:
        assert await erase(conn, [ADA]) == 2
    async with database.begin() as conn:
        assert await history(conn, [ADA]) == []
        assert await held_everywhere(conn, [ADA]) == []
        assert len(await history(conn, [BOB])) == 1


async def test_what_the_recipient_holds_already_is_never_written_over_as_new(database: Database) -> None:
    """The count tells the caller that somebody else was first."""
    await send(database, page(1), 10, ADA)
    async with database.begin() as conn:
        new = [Held(one, EMAIL_TOOL, frozenset((9,))) for one in (ADA, BOB)]
        assert await write_page(await raw(conn), page(2), [], new) == 1
        held = await held_by(await raw(conn), EMAIL_TOOL, [ADA, BOB])
    assert {one: sorted(state.fields) for one, state in held.items()} == {ADA: [3, 0x4002], BOB: [9]}
