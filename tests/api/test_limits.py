"""Limits at the real doors: rates by principal, order of shedding, and what a client reads (threats G17, G21, section 4.2)."""

import asyncio
import gzip
import json
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from api.admission import Admission, Door
from api.app import create_app
from api.ingest import routes
from api.limits import RateLimits
from tests.api.shop import Secrets, bearer, identify, order
from vault.config import Limits
from vault.errors import Unavailable
from vault.flows.vault import Vault

CONSENT = {
    "type": "track",
    "event": "Segment Consent Preference Updated",
    "userId": "u-1",
    "messageId": "change-1",
    "context": {"consent": {"categoryPreferences": {"analytics": False}}},
}
LOOKUP = "/v1/spaces/default/collections/users/profiles/email:x@example.com/traits"


class Timer:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


class House:
    """The application with clocks and gates in the test's hands."""

    def __init__(self, vault: Vault, limits: Limits) -> None:
        self.timer = Timer()
        self.app = create_app(vault)
        self.admission = self.app.state.admission = Admission(limits, timer=self.timer)
        self.app.state.limits = RateLimits(limits, timer=self.timer)
        transport = httpx.ASGITransport(self.app, client=("127.0.0.1", 50_000))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://vault.test")

    @asynccontextmanager
    async def full(self, *doors: Door) -> AsyncIterator[None]:
        """These gates hold all that they can hold, until the end."""
        async with AsyncExitStack() as stack:
            for door in doors:
                gate = self.admission.gates[door]
                tasks: list[asyncio.Task[Callable[[], None]]] = []
                while not (gate.is_full() and gate.is_full("anybody")):
                    tasks.append(asyncio.create_task(gate.enter(f"caller-{len(tasks)}")))
                    await asyncio.sleep(0)
                stack.push_async_callback(_emptied, tasks)
            yield


async def _emptied(tasks: list["asyncio.Task[Callable[[], None]]"]) -> None:
    for task in tasks:
        if not task.done():
            task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(outcome, BaseException):
            outcome()


@pytest.fixture
async def house(vault: Vault) -> AsyncIterator[Callable[..., House]]:
    async with AsyncExitStack() as stack:

        def make(**limits: int) -> House:
            made = House(vault, Limits(**{"ingest_at_once": 1, "reads_at_once": 1, "desk_at_once": 1} | limits))
            stack.push_async_callback(made.http.aclose)
            return made

        yield make


Make = Callable[..., House]


def limited(answer: httpx.Response) -> None:
    """A 429 as Segment's clients read it."""
    assert answer.status_code == 429
    assert answer.headers["content-type"].startswith("application/problem+json")
    body = answer.json()
    assert (body["code"], body["status"]) == ("rate_limited", 429)
    assert body["message"]
    assert int(answer.headers["retry-after"]) >= 1
    assert int(answer.headers["x-ratelimit-reset"]) >= 1
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert int(answer.headers["x-ratelimit-limit"]) >= 1


async def figure(house: House, line: str) -> float:
    text = (await house.http.get("/metrics")).text
    found = [one.rpartition(" ")[2] for one in text.splitlines() if one.startswith(line)]
    return float(found[0]) if found else 0.0


# --- rates ------------------------------------------------------------------------------------------------------------


async def test_g17_a_source_has_its_rate_wherever_it_calls_from_and_whatever_a_header_claims(
    house: Make, secrets: Secrets
) -> None:
    made = house(source_rate=1)
    key = (secrets.server, "")
    for number in range(2):
        told = await made.http.post("/v1/track", json=order(f"m-{number}"), auth=key)
        assert (told.status_code, told.headers["x-ratelimit-remaining"]) == (200, str(1 - number))
    for number in range(5):
        headers = {"x-forwarded-for": f"203.0.113.{number}", "forwarded": f"for=198.51.100.{number}"}
        headers["x-real-ip"] = f"192.0.2.{number}"
        limited(await made.http.post("/v1/track", json=order("m-9"), auth=key, headers=headers))
    limited(await made.http.post("/v1/batch", json={"batch": [order("m-9")], "writeKey": secrets.server}))
    assert (await made.http.post("/v1/t", json=order("m-9"), auth=(secrets.client, ""))).status_code == 200
    made.timer.at += 1
    assert (await made.http.post("/v1/track", json=order("m-9"), auth=key)).status_code == 200
    assert await figure(made, 'profile_vault_rate_limited_total{kind="source"}') == 6


async def test_a_source_that_spent_its_rate_may_still_say_choices(house: Make, secrets: Secrets) -> None:
    made = house(source_rate=1)
    key = (secrets.server, "")
    for number in range(2):
        await made.http.post("/v1/identify", json=identify(f"m-{number}"), auth=key)
    limited(await made.http.post("/v1/identify", json=identify("m-9"), auth=key))
    assert (await made.http.post("/v1/track", json=CONSENT, auth=key)).status_code == 200
    choice = {"purpose": "marketing", "decision": "withdrawn"}
    act = {"userId": "u-1", "messageId": "c-1", "choices": [choice]}
    assert (await made.http.post("/v1/consents", json=act, auth=key)).status_code == 200
    limited(await made.http.post("/v1/consents", json=act | {"messageId": "c-2"}, auth=key))  # theirs is spent, too
    limited(await made.http.post("/v1/track", json=CONSENT | {"messageId": "change-2"}, auth=key))


async def test_a_destination_has_its_contracts_rate_and_a_lookup_its_own(
    house: Make, secrets: Secrets, vault: Vault
) -> None:
    made = house(lookup_rate=1)
    token = bearer(secrets.destinations["warehouse"])
    feed = "/v1/destinations/warehouse/profiles?limit=1"
    rate = vault.catalogue.contracts["warehouse"].rate
    for _ in range(rate - 1):
        made.app.state.limits.destination("warehouse", rate)
    told = await made.http.get(feed, headers=token)
    assert (told.status_code, told.headers["x-ratelimit-limit"]) == (200, str(rate))
    limited(await made.http.get(feed, headers=token))
    reports = await made.http.post("/v1/destinations/warehouse/reports", content=b"", headers=token)
    assert reports.status_code != 429  # what they say can only lower
    for _ in range(10):
        assert (await made.http.get(LOOKUP, headers=token)).status_code == 404
    refused = await made.http.get(LOOKUP, headers=token)
    limited(refused)
    assert refused.json()["error"]["code"] == "rate_limit_error"  # as Segment's Profile API
    other = bearer(secrets.destinations["email-tool"])
    assert (await made.http.get("/v1/destinations/email-tool/profiles", headers=other)).status_code == 200


async def test_each_member_of_staff_has_a_rate(house: Make, secrets: Secrets) -> None:
    made = house(staff_rate=1)
    for _ in range(10):
        answer = await made.http.get("/v1/sources/shop/dropped", headers=bearer(secrets.staff["officer"]))
        assert answer.status_code == 403
    limited(await made.http.get("/v1/sources/shop/dropped", headers=bearer(secrets.staff["officer"])))
    assert (
        await made.http.get("/v1/sources/shop/dropped", headers=bearer(secrets.staff["auditor"]))
    ).status_code != 429


async def test_g21_guessing_is_limited_and_locks_nobody_out(house: Make, secrets: Secrets) -> None:
    made = house(stranger_rate=1)
    officer = bearer(secrets.staff["officer"])
    assert (await made.http.get("/v1/sources/shop/dropped", headers=officer)).status_code == 403  # known, at least
    for number in range(10):
        headers = bearer(f"guess-{number}") | {"x-forwarded-for": f"203.0.113.{number}"}
        assert (await made.http.get("/v1/purposes", headers=headers)).status_code == 401
    told = await made.http.get("/v1/purposes", headers=bearer("guess-11"))
    assert (told.status_code, told.json()["code"]) == (429, "too_many_strangers")
    assert int(told.headers["retry-after"]) >= 1
    assert (await made.http.get("/v1/sources/shop/dropped", headers=officer)).status_code == 403  # known, at least
    assert await figure(made, 'profile_vault_rate_limited_total{kind="stranger"}') == 1


# --- overload ---------------------------------------------------------------------------------------------------------


def sent_away(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    assert answer.headers["content-type"] == "application/problem+json"


async def calls(made: House, secrets: Secrets) -> dict[str, httpx.Response]:
    """One call of every class."""
    key = (secrets.server, "")
    choice = {"purpose": "marketing", "decision": "withdrawn"}
    number = len(made.http.headers) + int(made.timer.at)
    find = {"kind": "email", "value": "jane.planted@example.com"}
    warehouse = bearer(secrets.destinations["warehouse"])
    return {
        "track": await made.http.post("/v1/track", json=order(f"t-{number}"), auth=key),
        "feed": await made.http.get("/v1/destinations/warehouse/profiles", headers=warehouse),
        "lookup": await made.http.get(LOOKUP, headers=warehouse),
        "consents": await made.http.post(
            "/v1/consents", json={"userId": "u-1", "messageId": f"c-{number}", "choices": [choice]}, auth=key
        ),
        "change": await made.http.post("/v1/track", json=CONSENT | {"messageId": f"s-{number}"}, auth=key),
        "find": await made.http.post("/v1/subjects/find", json=find, headers=bearer(secrets.staff["officer"])),
        "health": await made.http.get("/readyz"),
        "figures": await made.http.get("/metrics"),
    }


@pytest.mark.parametrize(
    ("full", "away"),
    [
        ((), set()),
        ((Door.INGEST,), {"track"}),
        ((Door.READ,), {"feed", "lookup"}),
        ((Door.INGEST, Door.READ), {"track", "feed", "lookup"}),
        ((Door.DESK,), set()),  # it goes in by the ingest's gate
        ((Door.INGEST, Door.DESK), {"track", "consents", "change", "find"}),
    ],
)
async def test_classes_give_way_in_order_and_choices_never_before_ingest(
    house: Make, secrets: Secrets, full: tuple[Door, ...], away: set[str]
) -> None:
    made = house()
    await made.http.post("/v1/identify", json=identify(), auth=(secrets.server, ""))
    async with made.full(*full):
        answers = await calls(made, secrets)
    assert {name for name, answer in answers.items() if answer.status_code == 503} == away
    for name in away:
        sent_away(answers[name])
    made.timer.at += 1
    assert all(answer.status_code in {200, 404} for answer in (await calls(made, secrets)).values())


async def test_who_is_sent_away_costs_no_question_and_leaves_one_line_for_many(house: Make, secrets: Secrets) -> None:
    made = house()
    async with made.full(Door.INGEST):
        with capture_logs() as logs:
            for number in range(50):
                told = await made.http.post("/v1/t", json=order(f"m-{number}"), auth=("not even a key", ""))
                sent_away(told)  # not 401: nobody was asked
                assert (
                    told.headers["access-control-allow-origin"] == "*"
                )  # else a page could not read when to come again
                assert "retry-after" in told.headers["access-control-expose-headers"]
    assert 1 <= len(logs) < 25
    assert {line["event"] for line in logs} == {"overload"}
    assert await figure(made, 'profile_vault_sent_away_total{code="overloaded",door="ingest"}') == 50
    assert await figure(made, 'profile_vault_requests_total{method="POST",route="(shed)",status="503"}') == 50


async def test_a_change_of_consent_goes_in_by_the_desk_in_every_form_that_clients_send(
    house: Make, secrets: Secrets
) -> None:
    made = house()
    await made.http.post("/v1/identify", json=identify(), auth=(secrets.server, ""))
    batch = json.dumps({"batch": [order("m-5"), CONSENT], "writeKey": secrets.server}).encode()
    forms: list[tuple[bytes, dict[str, str]]] = [
        (batch, {"content-type": "text/plain"}),
        (batch, {"content-type": "application/json", "content-encoding": "identity"}),
        (gzip.compress(batch), {"content-type": "application/json", "content-encoding": "gzip"}),
    ]
    async with made.full(Door.INGEST):
        for body, headers in forms:
            assert (await made.http.post("/v1/b", content=body, headers=headers)).status_code == 200
        gone = [gzip.compress(batch)[:-9], batch[: len(batch) // 4], b"x" * 600_000]
        for body in gone:
            headers = {"content-encoding": "gzip"} if body[:1] == b"\x1f" else {}
            sent_away(await made.http.post("/v1/b", content=body, headers=headers))


async def test_h8_a_change_of_consent_goes_before_batches_and_no_other_tracking_call_does(
    house: Make, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = house()
    at_work: list[str] = []
    original = routes.receive

    async def watched(vault: Vault, *args: Any) -> Any:
        at_work.append(repr(vault.turns))
        return await original(vault, *args)

    monkeypatch.setattr(routes, "receive", watched)
    for body in (CONSENT, order("m-6")):
        assert (await made.http.post("/v1/track", json=body, auth=(secrets.server, ""))).status_code == 200
    assert at_work == ["Turns(1)", "Turns(0)"]


async def test_what_hangs_is_given_up_and_its_slot_is_free_again(
    house: Make, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("api.admission.DEADLINE", dict.fromkeys(Door, 0.05))
    monkeypatch.setattr("api.observe.DEADLINE", dict.fromkeys(Door, 0.05))
    monkeypatch.setattr("api.ingest.routes.receive", hangs)
    monkeypatch.setattr("vault.flows.release.page.page", hangs)
    made = house()
    warehouse = bearer(secrets.destinations["warehouse"])
    for answer in (
        await made.http.post("/v1/track", json=order(), auth=(secrets.server, "")),
        await made.http.get("/v1/destinations/warehouse/profiles", headers=warehouse),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "given_up")
        assert int(answer.headers["retry-after"]) >= 1
    assert [gate.busy for gate in made.admission.gates.values()] == [0, 0, 0]


async def test_the_desk_has_connections_that_nothing_else_may_take(
    house: Make, secrets: Secrets, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.health.SOON", 30.0)
    made = house()
    await made.http.post("/v1/identify", json=identify(), auth=(secrets.server, ""))
    pool: Any = vault.database.engine.pool
    async with AsyncExitStack() as stack:
        for _ in range(pool.size() + pool._max_overflow):
            await stack.enter_async_context(vault.database.hot())
        choice = {"purpose": "marketing", "decision": "withdrawn"}
        act = {"userId": "u-1", "messageId": "c-1", "choices": [choice]}
        assert (await made.http.post("/v1/consents", json=act, auth=(secrets.server, ""))).status_code == 200
        assert (await made.http.get("/readyz")).status_code == 200
        figures = (await made.http.get("/metrics")).text
    assert f'database_connections{{pool="common"}} {pool.size() + pool._max_overflow}.0' in figures
    assert "profile_vault_database_up 1.0" in figures


async def test_figures_come_without_a_database(house: Make, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(*_: Any) -> None:
        await asyncio.Event().wait()

    made = house()
    monkeypatch.setattr("api.health.SOON", 0.05)
    monkeypatch.setattr("vault.flows.figures.look", hangs)
    monkeypatch.setattr("vault.flows.ready.check", hangs)
    assert "profile_vault_database_up 0.0" in (await made.http.get("/metrics")).text
    ready = await made.http.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "database_unavailable")
    assert (await made.http.get("/livez")).text == "ok"


# --- a disk that is full ----------------------------------------------------------------------------------------------


async def test_h13_without_room_for_the_journal_a_refusal_is_not_acknowledged_and_health_says_why(
    house: Make, secrets: Secrets, vault: Vault
) -> None:
    made = house()
    key = (secrets.server, "")
    await made.http.post("/v1/identify", json=identify(), auth=key)
    choice = {"purpose": "marketing", "decision": "withdrawn"}
    act = {"userId": "u-1", "messageId": "c-1", "choices": [choice]}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = vault.settings.journal_folder / "narrowings.journal"
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 5, before[1]))
    try:
        with capture_logs():  # what is printed goes to a file, too
            told = await made.http.post("/v1/consents", json=act, auth=key)
            assert (told.status_code, told.json()["code"]) == (503, "journal_unavailable")
            assert "retry-after" in told.headers
            ready = await made.http.get("/readyz")
            assert (ready.status_code, ready.json()["code"]) == (503, "journal_unavailable")
            assert (await made.http.post("/v1/track", json=order(), auth=key)).status_code == 200  # it narrows nothing
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    told = await made.http.post("/v1/consents", json=act, auth=key)
    assert (told.status_code, told.json()["state"]["marketing"]) == (200, "refused")
    assert (await made.http.get("/readyz")).status_code == 200
    assert await figure(made, "profile_vault_journal_failures_total") >= 1


async def test_h13_a_server_without_room_on_its_disk_is_named_by_health(house: Make, vault: Vault) -> None:
    made = house()
    with pytest.raises(Unavailable) as refused:
        async with vault.database.hot() as connection:
            await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'no room for jane' USING ERRCODE = '53100'; END $$")
    assert refused.value.reason == "database_full"
    ready = await made.http.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "database_full")
