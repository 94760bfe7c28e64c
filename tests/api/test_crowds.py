"""One key, or none, against everybody else: slow bodies, heavy ones, words in them (threats G7, H17, section 4.2)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from api.admission import MAX_URGENT, Door
from api.room import Room
from tests.api.shop import Secrets, order
from tests.api.test_connection import PATIENCE, listening
from tests.api.test_limits import CONSENT, House, house, sent_away
from vault.flows.vault import Vault

__all__ = ["house"]
Make = Callable[..., House]


def half(path: str, key: str | None) -> bytes:
    """A request of which the body never comes."""
    who = "" if key is None else f"Authorization: Bearer {key}\r\n"
    length = "Content-Type: application/json\r\nContent-Length: 90\r\n\r\n{"
    return f"POST {path} HTTP/1.1\r\nHost: vault.test\r\n{who}{length}".encode()


class Crowd:
    """A house that listens, and connections on which half a request was said."""

    def __init__(self, made: House, port: int, stack: AsyncExitStack) -> None:
        self.made, self._port, self._stack = made, port, stack
        self._kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)

    async def waits(self, count: int, path: str, key: str | None) -> None:
        """So many say half a request; returns once the vault waits for all of them."""
        room: Room = self.made.app.state.room
        wanted = room.bodies + count
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._stack.callback(writer.transport.abort)
            self._kept.append((reader, writer))  # a stream that nobody holds is closed
            writer.write(half(path, key))
        async with asyncio.timeout(PATIENCE):
            while room.bodies < wanted:  # noqa: ASYNC110 (a condition of a server, which tells nobody)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def crowd(vault: Vault, made: House, room: Room) -> AsyncIterator[Crowd]:
    made.app.state.room = room
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening(vault, app=made.app))
        yield await stack.enter_async_context(_opened(Crowd(made, port, stack)))


@asynccontextmanager
async def _opened(one: Crowd) -> AsyncIterator[Crowd]:
    async with one.http:
        yield one


def choice(number: int) -> dict[str, Any]:
    return {
        "userId": "u-1",
        "messageId": f"c-{number}",
        "choices": [{"purpose": "marketing", "decision": "withdrawn"}],
    }


async def test_h17_who_is_slow_to_say_a_body_holds_no_slot_of_any_class(
    house: Make, vault: Vault, secrets: Secrets
) -> None:
    made = house(ingest_at_once=2, desk_at_once=2)
    async with crowd(vault, made, Room()) as them:
        await them.waits(30, "/v1/consents", secrets.client)
        await them.waits(30, "/v1/batch", secrets.client)
        assert [gate.busy for gate in made.admission.gates.values()] == [0, 0, 0]
        key = (secrets.server, "")
        assert (await them.http.post("/v1/consents", json=choice(1), auth=key)).status_code == 200
        assert (await them.http.post("/v1/track", json=order("m-1"), auth=key)).status_code == 200


async def test_g7_one_key_holds_no_more_than_half_of_the_room_and_strangers_a_quarter(
    house: Make, vault: Vault, secrets: Secrets
) -> None:
    made = house()
    async with crowd(vault, made, Room(bodies=8)) as them:
        await them.waits(4, "/v1/consents", secrets.client)
        sent_away(await them.http.post("/v1/consents", json=choice(1), auth=(secrets.client, "")))
        await them.waits(2, "/v1/batch", None)
        body = {"batch": [order("m-1")], "writeKey": secrets.server}
        sent_away(await them.http.post("/v1/batch", json=body))
        assert (await them.http.post("/v1/consents", json=choice(2), auth=(secrets.server, ""))).status_code == 200
        assert (await them.http.post("/v1/track", json=order("m-1"), auth=(secrets.server, ""))).status_code == 200
    assert them.made.app.state.room.bodies == 0


async def test_h17_half_requests_of_nobody_send_no_tracking_call_away(
    house: Make, vault: Vault, secrets: Secrets
) -> None:
    made = house()
    async with crowd(vault, made, Room()) as them:
        await them.waits(60, "/v1/batch", None)
        assert not made.admission.gates[Door.INGEST].is_full()
        assert (await them.http.post("/v1/track", json=order("m-1"), auth=(secrets.server, ""))).status_code == 200


UNFIT: dict[str, bytes] = {
    "no UTF-8": b'{"a":"\xff"}',
    "too deep": b"[" * 40,
    "numbers that are none": b"[" + b"NaN," * 1_000 + b"1]",
    "not JSON": b"jane.planted",
}


@pytest.mark.parametrize("body", UNFIT.values(), ids=list(UNFIT))
async def test_g7_who_shows_no_key_is_told_so_before_the_body_is_looked_into(house: Make, body: bytes) -> None:
    made = house()
    for sent in (body, body + b'"writeKey":"nobody-has-this"'):
        told = await made.http.post("/v1/batch", content=sent)
        assert (told.status_code, told.json()["code"]) == (401, "unauthenticated")


async def test_g7_a_body_is_looked_into_in_a_slot_of_its_source(house: Make, secrets: Secrets) -> None:
    made = house()
    named = b'"writeKey":"%b"' % secrets.client.encode()
    async with made.full(Door.INGEST):
        for body in UNFIT.values():
            sent_away(await made.http.post("/v1/batch", content=body + named))
    for body in UNFIT.values():
        assert (await made.http.post("/v1/batch", content=body + named)).status_code in {400, 401}


async def test_b1_the_key_of_a_body_is_the_one_at_its_top(house: Make, secrets: Secrets) -> None:
    """A property may be called `writeKey`, too: it names nobody."""
    made = house()
    event = order("m-1") | {"properties": {"writeKey": secrets.client}}
    told = await made.http.post("/v1/batch", json={"writeKey": secrets.server, "batch": [event]})
    assert told.json()["stored"] == 1  # as only a server's source is answered
    told = await made.http.post("/v1/batch", json={"batch": [event]})
    assert told.status_code == 401
    told = await made.http.post("/v1/batch", json={"writeKey": "nobody", "batch": [event]})
    assert told.status_code == 401


async def test_h17_no_word_in_a_property_and_no_large_body_goes_in_by_the_desk(house: Make, secrets: Secrets) -> None:
    made = house()
    key = (secrets.server, "")
    words = order("m-1") | {"properties": {"x": CONSENT["event"]}}
    large = {"batch": [CONSENT, order("m-2") | {"properties": {"x": "y" * MAX_URGENT}}]}
    many = {"batch": [CONSENT, *[order(f"m-{number}") for number in range(30)]]}
    async with made.full(Door.INGEST):
        for body in (words, {"batch": [words]}, large, many):
            sent_away(await made.http.post("/v1/batch", content=json.dumps(body), auth=key))
        assert (await made.http.post("/v1/batch", json={"batch": [CONSENT]}, auth=key)).status_code == 200
