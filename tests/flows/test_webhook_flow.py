"""Claims about pushing, against a real server on loopback that checks signatures with the standard's own library."""

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from tests.fakes import FakeClock
from tests.flows.feed_world import SCHEMA, Line, Reader, audited, open_shop, ops, rows_of
from vault import worker
from vault.audit.entry import Tag
from vault.bootstrap import open_vault
from vault.changes.incarnation import renew
from vault.clock import DAY, SECOND, Micros
from vault.destinations.store import Webhook as Row
from vault.destinations.store import set_webhook, webhooks
from vault.destinations.transport import Transport
from vault.destinations.webhook import address_code
from vault.errors import Invalid, Unavailable
from vault.flows import deliver, hooks
from vault.flows.adopt import adopt
from vault.flows.deliver import deliver_due
from vault.flows.vault import Vault
from vault.keys import names
from vault.storage.session import raw

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


class Recipient:
    """A server that takes deliveries; `statuses` are its next answers, 204 once they are used up."""

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.meanwhile: Callable[[], Any] | None = None
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append((headers, body))
            if self.meanwhile is not None:
                await self.meanwhile()
            status = self.statuses.pop(0) if self.statuses else "204 No Content"
            writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @property
    def lines(self) -> list[list[Line]]:
        """The lines of each delivery."""
        return [json.loads(body)["data"]["lines"] for _, body in self.requests]


@pytest.fixture
async def recipient() -> AsyncIterator[Recipient]:
    one = Recipient()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    yield one
    server.close()
    await server.wait_closed()


@pytest.fixture
async def transport(vault: Vault) -> AsyncIterator[Transport]:
    vault.settings = msgspec.structs.replace(vault.settings, webhook_networks=LOOPBACK)
    async with Transport(LOOPBACK) as opened:
        yield opened


async def registered(vault: Vault, recipient: Recipient, destination: str = "email-tool") -> str:
    return await hooks.register(vault, destination, f"http://127.0.0.1:{recipient.port}/in?secret=planted-path")


async def push(vault: Vault, transport: Transport) -> int:
    total = 0
    while moved := await deliver_due(vault, transport):
        total += moved
    return total


async def hook_rows(vault: Vault) -> list[Row]:
    async with vault.database.begin() as connection:
        return await webhooks(connection)


async def hook_row(vault: Vault) -> Any:
    (row,) = await rows_of(vault, "SELECT * FROM webhook")
    return row


async def test_what_is_pushed_is_what_would_be_pulled_and_verifies_with_the_standard_library(
    vault: Vault, transport: Transport, recipient: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await open_shop(vault)
    for user in ("ada", "bea"):
        await shop.person(user)
    secret = await registered(vault, recipient)
    assert await push(vault, transport) == 1
    ((headers, body),) = recipient.requests
    monkeypatch.setattr("standardwebhooks.webhooks.datetime", _Clock(vault.clock.now()))
    told = Webhook(secret).verify(body, headers)
    assert (told["type"], headers["content-type"]) == ("profiles.changed", "application/json")
    assert told["data"]["lines"] == await Reader(vault, "email-tool").read()
    for line in told["data"]["lines"]:
        SCHEMA.validate(line)
        assert "cursor" not in line
    with pytest.raises(Exception, match="signature"):
        Webhook(secret).verify(body.replace(b"ada@", b"eve@"), headers)
    assert await push(vault, transport) == 0
    assert len(recipient.requests) == 1


async def test_many_people_come_in_several_deliveries_framed_once(
    vault: Vault, transport: Transport, recipient: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "LINES", 2)
    shop = await open_shop(vault)
    for user in ("ada", "bea", "cleo"):
        await shop.person(user)
    await registered(vault, recipient)
    assert await push(vault, transport) == 2
    assert [ops(lines) for lines in recipient.lines] == [["reset", "upsert", "upsert"], ["upsert", "snapshot_end"]]
    assert len({headers["webhook-id"] for headers, _ in recipient.requests}) == 2


async def test_a_failure_is_retried_with_the_same_id_and_nothing_is_skipped(
    vault: Vault, transport: Transport, recipient: Recipient, clock: FakeClock
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await registered(vault, recipient)
    recipient.statuses = ["500 Oops", "302 Found", "429 Slow Down"]
    for failures in (1, 2, 3):
        assert await push(vault, transport) == 0
        assert (await hook_row(vault))["failures"] == failures
        assert await push(vault, transport) == 0  # not due yet
        clock.at = Micros((await hook_row(vault))["next_at"])
    assert await push(vault, transport) == 1
    row = await hook_row(vault)
    assert (row["failures"], row["delivered_at"]) == (0, clock.now())
    assert len(recipient.requests) == 4
    assert len({headers["webhook-id"] for headers, _ in recipient.requests}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in recipient.requests}) == 4
    assert len({json.dumps(lines) for lines in recipient.lines}) == 1


async def test_c6_what_was_withdrawn_between_failure_and_retry_is_not_sent(
    vault: Vault, transport: Transport, recipient: Recipient, clock: FakeClock
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await shop.person("bea")
    await registered(vault, recipient)
    recipient.statuses = ["500 Oops"]
    await push(vault, transport)
    await shop.withdraw("ada", "marketing")
    clock.advance(10)
    assert await push(vault, transport) == 1
    first, second = (body for _, body in recipient.requests)
    assert b"ada@planted.example" in first
    assert b"ada@planted.example" not in second
    assert [line.get("reason") for line in recipient.lines[1] if line["op"] == "remove"] == ["withdrawn"]
    assert recipient.requests[0][0]["webhook-id"] != recipient.requests[1][0]["webhook-id"]


async def test_c6_a_withdrawal_while_the_connection_is_made_stops_the_delivery(
    vault: Vault, recipient: Recipient, clock: FakeClock
) -> None:
    """The name takes long to resolve; what was decided before that is not sent when it is older than a second."""
    shop = await open_shop(vault)
    await shop.person("ada")
    await shop.person("bea")
    waits = [True]

    async def resolve(_host: str, _port: int) -> list[str]:
        if waits and waits.pop():
            await shop.withdraw("ada", "marketing")
            clock.advance(micros=SECOND + 1)
        return ["127.0.0.1"]

    vault.settings = msgspec.structs.replace(vault.settings, webhook_networks=LOOPBACK)
    async with Transport(LOOPBACK, resolve=resolve) as transport:
        await registered(vault, recipient)
        (hook,), url = await hook_rows(vault), f"http://slow.example:{recipient.port}/"
        secret = vault.keyring.key(names.webhook("email-tool"))
        code = address_code(vault.keyring.key(names.PSEUDONYM), secret, hook.destination, url)
        async with vault.database.begin() as connection:
            await set_webhook(connection, hook.destination, url, clock.now(), code)
        assert await push(vault, transport) == 1
    ((_, body),) = recipient.requests
    assert b"ada@planted.example" not in body
    assert b"bea@planted.example" in body


async def test_a_recipient_that_is_always_too_slow_to_reach_gets_nothing_and_is_tried_later(
    vault: Vault, recipient: Recipient, clock: FakeClock
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")

    async def resolve(_host: str, _port: int) -> list[str]:
        clock.advance(micros=SECOND + 1)
        return ["127.0.0.1"]

    vault.settings = msgspec.structs.replace(vault.settings, webhook_networks=LOOPBACK)
    async with Transport(LOOPBACK, resolve=resolve) as transport:
        await registered(vault, recipient)
        (hook,), url = await hook_rows(vault), f"http://slow.example:{recipient.port}/"
        secret = vault.keyring.key(names.webhook("email-tool"))
        code = address_code(vault.keyring.key(names.PSEUDONYM), secret, hook.destination, url)
        async with vault.database.begin() as connection:
            await set_webhook(connection, hook.destination, url, clock.now(), code)
        assert await push(vault, transport) == 0
    assert recipient.requests == []
    assert (await hook_row(vault))["failures"] == 1


async def test_a_withdrawal_reaches_the_recipient_with_the_next_delivery(
    vault: Vault, transport: Transport, recipient: Recipient
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await registered(vault, recipient)
    await push(vault, transport)
    await shop.withdraw("ada", "marketing")
    assert await push(vault, transport) == 1
    assert ops(recipient.lines[1]) == ["remove"]


async def test_a_removal_whose_delivery_failed_is_not_lost_when_the_person_moves_on(
    vault: Vault, transport: Transport, recipient: Recipient, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "LINES", 1)
    shop = await open_shop(vault)
    for user in ("ada", "bea", "cleo"):
        await shop.person(user)
    await registered(vault, recipient)
    await push(vault, transport)
    held = len(recipient.requests)
    recipient.statuses = ["500 Oops"]
    await shop.withdraw("ada", "marketing")
    await push(vault, transport)
    for user in ("bea", "cleo", "ada"):
        await shop.person(user, lastName="Anew")
    clock.advance(10)
    await push(vault, transport)
    assert [ops(lines) for lines in recipient.lines[held:]] == [["remove"], ["remove"], ["upsert"], ["upsert"]]


async def test_410_ends_the_webhook_until_somebody_sets_it_anew(
    vault: Vault, transport: Transport, recipient: Recipient, clock: FakeClock
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await registered(vault, recipient)
    recipient.statuses = ["410 Gone"]
    assert await push(vault, transport) == 0
    assert (await hook_row(vault))["disabled_at"] == clock.now()
    assert len(await audited(vault, Tag.DESTINATION_WEBHOOK_DISABLED)) == 1
    clock.advance(micros=400 * DAY)
    assert await push(vault, transport) == 0
    assert len(recipient.requests) == 1
    await registered(vault, recipient)
    assert await push(vault, transport) == 1


async def test_a_secret_that_another_process_set_anew_signs_from_then_on(
    vault: Vault, transport: Transport, recipient: Recipient, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await registered(vault, recipient)
    await push(vault, transport)
    async with open_vault(vault.settings, clock=clock) as other:
        secret = await registered(other, recipient)
    await push(vault, transport)
    headers, body = recipient.requests[-1]
    monkeypatch.setattr("standardwebhooks.webhooks.datetime", _Clock(vault.clock.now()))
    assert Webhook(secret).verify(body, headers)


async def test_h20_after_the_database_was_replaced_a_new_snapshot_is_pushed(
    vault: Vault, transport: Transport, recipient: Recipient
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await registered(vault, recipient)
    await push(vault, transport)
    async with vault.database.begin() as connection:
        vault.incarnation = await renew(connection)
    assert await push(vault, transport) == 1
    assert ops(recipient.lines[1]) == ["reset", "upsert", "snapshot_end"]


async def test_g9_a_destination_in_trouble_holds_up_no_other(
    vault: Vault, transport: Transport, recipient: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada", order=250.0)
    for destination in ("email-tool", "ad-platform"):
        await registered(vault, recipient, destination)
    whole = deliver.read_page

    async def broken(vault: Vault, destination: str, *rest: Any) -> Any:
        if destination == "ad-platform":
            raise Unavailable("no key")
        return await whole(vault, destination, *rest)

    monkeypatch.setattr(deliver, "read_page", broken)
    assert await push(vault, transport) == 1
    rows = await rows_of(vault, "SELECT destination, failures FROM webhook ORDER BY destination")
    assert [tuple(row) for row in rows] == [(2, 0), (3, 1)]


async def test_without_a_record_nothing_is_pushed(
    vault: Vault, transport: Transport, recipient: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await registered(vault, recipient)

    async def broken(*_: Any) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr("vault.flows.release.page.record", broken)
    assert await push(vault, transport) == 0
    assert recipient.requests == []


async def test_two_workers_push_each_line_once(vault: Vault, transport: Transport, recipient: Recipient) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await registered(vault, recipient)

    async def other() -> None:
        recipient.meanwhile = None
        holder = vault.database.holder
        vault.database.holder = type(holder)(int=7)
        assert await deliver_due(vault, transport) == 0
        vault.database.holder = holder

    recipient.meanwhile = other
    assert await push(vault, transport) == 1
    assert len(recipient.requests) == 1


async def test_h1_only_networks_that_the_operator_opened_are_reached(
    vault: Vault, transport: Transport, recipient: Recipient
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await registered(vault, recipient)
    async with Transport() as closed:
        assert await push(vault, closed) == 0
    assert recipient.requests == []
    vault.settings = msgspec.structs.replace(vault.settings, webhook_networks=())
    with pytest.raises(Invalid):
        await registered(vault, recipient)


async def test_h2_no_value_id_secret_or_address_stands_in_the_log(
    vault: Vault, transport: Transport, recipient: Recipient
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    secret = await registered(vault, recipient)
    recipient.statuses = ["500 Oops"]
    with capture_logs() as logs:
        await push(vault, transport)
    text = json.dumps(logs)
    assert [one["event"] for one in logs] == ["webhook.failed"]
    for planted in ("ada@", "planted-path", "127.0.0.1", secret, secret.removeprefix("whsec_")):
        assert planted not in text


async def test_the_worker_pushes_until_nothing_is_left(
    vault: Vault, transport: Transport, recipient: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People who show nothing at the front of the feed do not make it stop."""
    monkeypatch.setattr(deliver, "LINES", 1)
    shop = await open_shop(vault)
    for user in ("ada", "bea"):
        await shop.person(user)
        await shop.withdraw(user, "marketing")
    await shop.person("cleo")
    await registered(vault, recipient)
    await worker.run(vault, once=True)
    lines = [line for delivery in recipient.lines for line in delivery]
    assert ops(lines) == ["reset", "upsert", "snapshot_end"]


async def test_a_loop_that_breaks_is_logged_without_its_text_and_goes_on(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []

    async def step() -> int:
        if len(calls) < 2:
            raise KeyError("ada@planted.example")
        raise asyncio.CancelledError

    async def slept(seconds: float) -> None:
        calls.append(seconds)

    monkeypatch.setattr(worker.asyncio, "sleep", slept)
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await worker._loop(vault, "webhooks", step, 0.05)
    assert [(one["event"], one["code"]) for one in logs] == [("worker.failed", "KeyError")] * 2
    assert calls == [0.1, 0.2]
    assert "planted" not in json.dumps(logs)


class _Clock:
    """Stands in for `datetime` inside the verifying library, so that it agrees with the test's clock."""

    def __init__(self, at: Micros) -> None:
        self.at = at

    def __getattr__(self, name: str) -> Any:
        import datetime as dt  # noqa: PLC0415 - the module that is stood in for

        return getattr(dt.datetime, name)

    def now(self, tz: Any = None) -> Any:
        import datetime as dt  # noqa: PLC0415 - as above

        return dt.datetime.fromtimestamp(self.at / SECOND, tz=tz)


@pytest.mark.parametrize("edit", ["UPDATE webhook SET url = $1", "UPDATE webhook SET url = $1, code = NULL"])
async def test_h1_an_address_that_somebody_wrote_into_the_database_gets_nothing(
    vault: Vault, transport: Transport, recipient: Recipient, edit: str
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await hooks.register(vault, "email-tool", "http://127.0.0.1:1/hook")
    async with vault.database.hot() as connection:
        await connection.execute(edit, f"http://127.0.0.1:{recipient.port}/in")
    assert await push(vault, transport) == 0
    assert recipient.requests == []
    row = await hook_row(vault)
    assert (row["cursor"], row["failures"]) == (None, 1)
    assert [one.detail for one in await audited(vault, Tag.INTEGRITY_CHECK_FAILED)] == [{"destination": "email-tool"}]


async def test_h1_an_earlier_address_put_back_with_its_code_gets_nothing(
    vault: Vault, transport: Transport, recipient: Recipient
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await registered(vault, recipient)
    before = await hook_row(vault)
    await hooks.register(vault, "email-tool", "http://127.0.0.1:1/hook")
    async with vault.database.hot() as connection:
        await connection.execute("UPDATE webhook SET url = $1, code = $2", before["url"], before["code"])
    assert await push(vault, transport) == 0
    assert recipient.requests == []


async def test_an_address_from_before_there_were_codes_is_taken_over_once(
    vault: Vault, transport: Transport, recipient: Recipient
) -> None:
    shop = await open_shop(vault)
    await shop.person("ada")
    await registered(vault, recipient)
    async with vault.database.begin() as connection:
        await (await raw(connection)).execute("UPDATE webhook SET code = NULL")
        await adopt(connection, vault.keystore, vault.catalogue)
    assert await push(vault, transport) > 0
    assert recipient.requests != []
