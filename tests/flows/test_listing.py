"""The list of requests: every one by its id, in pages, chosen by what is vouched for."""

from uuid import UUID

from tests.flows.rights_world import officer
from tests.worlds import World, identify
from vault.flows.find import find
from vault.flows.honour.intake import open_request
from vault.flows.honour.listing import Listed, list_requests
from vault.rights.request import RequestType

ASKED: tuple[tuple[str, RequestType], ...] = (("ada", "access"), ("bob", "erasure"), ("cy", "portability"))


async def asked(world: World) -> list[UUID]:
    actor, made = officer(world.vault), []
    for name, kind in ASKED:
        await world.send(identify(name, email=f"{name}@example.com"))
        await world.settle()
        ref = await find(world.vault, actor, "user_id", name)
        made.append(await open_request(world.vault, actor, ref, kind))
    return made


def ids(page: Listed) -> list[UUID]:
    return [one for one, _ in page.requests]


async def test_requests_are_listed_in_pages_by_type_and_by_whether_they_are_open(world: World) -> None:
    made = await asked(world)
    erasure, made = made[1], sorted(made)
    first = await list_requests(world.vault, after=None, limit=2)
    assert (ids(first), first.following) == (made[:2], made[1])
    rest = await list_requests(world.vault, after=first.following, limit=2)
    assert (ids(rest), rest.following) == (made[2:], None)
    assert ids(await list_requests(world.vault, after=None, limit=9, kind="erasure")) == [erasure]
    await world.settle()
    open_ = {one.request_id for _, one in (await list_requests(world.vault, after=None, limit=9)).requests
             if one is not None and one.finished_at is None}  # fmt: skip
    assert set(ids(await list_requests(world.vault, after=None, limit=9, unfinished=True))) == open_ != set(made)


async def test_a6_who_writes_to_the_database_takes_no_request_off_the_list(world: World) -> None:
    made = await asked(world)
    await world.rows("UPDATE request SET state = 'completed', type = 'access' WHERE request_id = $1", made[1])
    listed = await list_requests(world.vault, after=None, limit=9, kind="erasure", unfinished=True)
    assert listed.requests == [(made[1], None)]
