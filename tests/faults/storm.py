"""Random kills under a mix of everything: `python -m tests.faults.storm --kills 500 --seed 1`.

Clients in threads of their own send orders, link devices, choose, read feeds, ask for access and erase; each knows what it
did (the model) and, as in Jepsen, what became of it: an answer (ok), a refusal (fail), or silence (unknown). What is
unknown is asked again with the same messageId until it is known. Meanwhile processes are killed at random: servers, the
worker, the database server, one of its backends. In between and at the end everything is read again by `oracle.check`,
and the people must be what the model says: nothing acknowledged lost, no effect twice, nobody erased back.

`--scenario import`: 20,000 events in batches as the Segment SDKs send them, the server killed 20 times.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import httpx
import msgspec

from tests.faults import oracle
from tests.faults.client import PUSHED, Told, bearer
from tests.faults.recipient import taken
from tests.faults.street import PATIENCE, Street, awaited, printed, street
from tests.worlds import identify, order, track
from vault.bootstrap import open_vault
from vault.config import load
from vault.consent.ledger import How
from vault.flows.vault import Vault
from vault.worker import run

KINDS: Final = ("server", "server", "worker", "postmaster", "backend", "backend")
CHOSEN: Final = ("personalisation", "marketing", "advertising")
DESTINATIONS: Final = ("warehouse", "email-tool", "ad-platform", "support-desk")
AT: Final = "2026-03-01T10:00:00Z"
SHARED: Final = tuple(f"shared-{number}" for number in range(4))
ANALYTICS: Final = "warehouse"
Json = dict[str, Any]


class Person(msgspec.Struct):
    """What must be true of somebody in the end."""

    orders: dict[str, Decimal] = {}  # messageId to amount
    views: int = 0
    acts: int = 0
    stands: dict[str, str] = {}
    device: str | None = None
    erased: bool = False


class Model:
    """Everybody, and what left the vault. One client at a time writes down what it knows."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {user: Person() for user in SHARED}
        self.told: list[Told] = []
        self.counts: dict[str, int] = {"ok": 0, "fail": 0, "unknown": 0}
        self.findings: list[str] = []
        self.lock = threading.Lock()

    def found(self, fault: str) -> None:
        """A finding."""
        with self.lock:
            self.findings.append(fault)
        print("FINDING", fault, file=sys.stderr, flush=True)


class Worker(threading.Thread):
    """One client: its own people, the shared ones, and a reader of one destination."""

    def __init__(self, number: int, town: Street, secrets: Any, model: Model, drawn: random.Random, end: threading.Event) -> None:
        super().__init__(daemon=True)
        self.number, self.town, self.secrets, self.model, self.drawn, self.end = number, town, secrets, model, drawn, end
        self.destination = DESTINATIONS[number % len(DESTINATIONS)]
        self.cursor: str | None = None
        self.mine: list[str] = []
        self.made = 0
        self.pause = threading.Event()
        self.idle = threading.Event()
        self._http = httpx.Client(timeout=60)

    def run(self) -> None:
        steps: list[tuple[Callable[[], None], int]] = [
            (self.buy, 50), (self.arrive, 12), (self.choose, 18), (self.read, 12), (self.link, 6), (self.access, 3), (self.erase, 5),
        ]  # fmt: skip
        try:
            self.arrive()
            while not self.end.is_set():
                if self.pause.is_set():
                    self.idle.set()
                    time.sleep(0.05)
                    continue
                self.idle.clear()
                self.drawn.choices([step for step, _ in steps], [weight for _, weight in steps])[0]()
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            self.model.found(traceback.format_exc(limit=-4))
        self.idle.set()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """An answer that counts. Silence, 5xx and lost races are asked again: the message ids make it one effect."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = self._http.request(method, self.drawn.choice(self.town.urls) + path, **more)
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code < 500 and answer.status_code != 429:
                if answer.status_code != 409 or answer.json().get("code") not in {"retry", "not_ready"}:
                    self._count("ok" if answer.is_success else "fail")
                    return answer
            self._count("unknown")
            if time.monotonic() > deadline:
                raise AssertionError(f"{method} {path.split('?')[0]}: no answer within {PATIENCE:.0f} seconds")
            time.sleep(0.3)

    def _count(self, what: str) -> None:
        with self.model.lock:
            self.model.counts[what] += 1

    def batch(self, *sent: Json) -> None:
        """Everything of it must be stored, or have been."""
        body = self.ask("POST", "/v1/batch", json={"batch": list(sent)}, auth=(self.secrets.write_key, "")).json()
        codes = {drop["code"] for drop in body["dropped"]}
        if codes - {"duplicate"} or body["stored"] + len(body["dropped"]) != len(sent):
            raise AssertionError(f"a batch was answered with {body}")

    # --- what people do -----------------------------------------------------------------------------------------------

    def arrive(self) -> None:
        self.made += 1
        user = f"u-{self.number}-{self.made}"
        self.batch(identify(user, email=f"{user}@planted.example", firstName="Planted", id=f"i-{user}", at=AT))
        self.mine.append(user)
        with self.model.lock:
            self.model.people[user] = Person()

    def buy(self) -> None:
        bought: list[tuple[str, str, Decimal]] = []
        for _ in range(self.drawn.randint(1, 8)):
            user = self.drawn.choice([*self.mine[-6:], *SHARED])
            self.made += 1
            bought.append((user, f"o-{self.number}-{self.made}", Decimal(self.drawn.randint(1, 9999)) / 100))
        sent = [order(user, float(amount), id=name, order_id=name, at=AT) for user, name, amount in bought]
        if self.drawn.random() < 0.2:
            sent.append(sent[0])  # a client that repeats itself
        self.batch(*sent)
        with self.model.lock:
            for user, name, amount in bought:
                self.model.people[user].orders[name] = amount

    def choose(self) -> None:
        user, purpose = self.drawn.choice(self.mine), self.drawn.choice(CHOSEN)
        decision = self.drawn.choice(("granted", "withdrawn"))
        self.made += 1
        act = {"userId": user, "messageId": f"c-{self.number}-{self.made}", "choices": [{"purpose": purpose, "decision": decision}]}
        answer = self.ask("POST", "/v1/consents", json=act, auth=(self.secrets.write_key, ""))
        if not answer.is_success:
            raise AssertionError(f"a choice was answered with {answer.status_code}")
        with self.model.lock:
            person = self.model.people[user]
            person.acts += 1
            person.stands[purpose] = decision

    def link(self) -> None:
        user = self.drawn.choice(self.mine)
        device = f"d-{user}"
        if self.model.people[user].device is not None:
            return
        self.batch(track("Product Viewed", anon=device, product_id="p-1", id=f"v-{user}", at=AT))
        self.batch(identify(user, anon=device, id=f"l-{user}", at=AT))
        with self.model.lock:
            self.model.people[user].device = device
            self.model.people[user].views = 1

    def read(self) -> None:
        query = {"limit": str(self.drawn.choice((3, 50, 1000)))}
        if self.cursor is not None:
            query["cursor"] = self.cursor
        path = f"/v1/destinations/{self.destination}/profiles"
        answer = self.ask("GET", path, params=query, headers=bearer(self.secrets.tokens[self.destination]))
        if answer.status_code == 410:  # the database began another life
            self.cursor = None
            return
        lines = [msgspec.json.decode(line) for line in answer.content.splitlines()]
        self.cursor = lines[-1]["cursor"]
        with self.model.lock:
            self.model.told.append(Told(f"feed {self.destination}", 200, lines))

    def access(self) -> None:
        self._opened(self.drawn.choice(self.mine), "access")

    def erase(self) -> None:
        if len(self.mine) < 3:
            return
        user = self.mine.pop(self.drawn.randrange(len(self.mine)))
        self._opened(user, "erasure")
        with self.model.lock:
            self.model.people[user].erased = True
        found = self._find(user)
        if found is not None and "request" not in self._open(found, "erasure"):
            raise AssertionError("an erased person is found and is no erased person")

    def _opened(self, user: str, kind: str) -> None:
        found = self._find(user)
        if found is None:
            if kind == "erasure":  # asked again after silence: it may be done
                return
            raise AssertionError("a person is not found")
        body = self._open(found, kind)
        if "request" not in body and not (kind == "erasure" and body.get("code") in {"not_found", "gone"}):
            raise AssertionError(f"{kind} was answered with {body}")

    def _open(self, ref: str, kind: str) -> Json:
        return dict(self.ask("POST", f"/v1/subjects/{ref}/{kind}", headers=bearer(self.secrets.officer)).json())

    def _find(self, user: str) -> str | None:
        wanted = {"kind": "user_id", "value": user}
        return self.ask("POST", "/v1/subjects/find", json=wanted, headers=bearer(self.secrets.officer)).json().get("ref")


# --- judging ----------------------------------------------------------------------------------------------------------


async def judged(town: Street, model: Model) -> None:
    """Everything read again, and the people compared with the model. Nobody writes meanwhile."""
    async with open_vault(load(environ=town.house.environ)) as vault:
        await _quiet(vault)
        pushed = [Told(f"feed {PUSHED}", 200, lines) for _, lines in taken(town.folder, "storm")]
        await oracle.check(vault, model.told + pushed)
        for fault in oracle.repeated(taken(town.folder, "storm")):
            model.found(fault)
        reader = oracle.Reader(vault, {})
        shown = {line["id"]: line for line in await reader.feed(ANALYTICS)}
        mailed = {line["traits"]["email"] for line in await reader.feed("email-tool") if "email" in line["traits"]}
        for user, person in model.people.items():
            with _accusing(model, user):
                await _compared(vault, reader, user, person, shown, mailed)


async def _quiet(vault: Vault) -> None:
    """What waits for a worker is done: leases of the killed are over in 15 seconds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        await run(vault, once=True)
        async with vault.database.hot() as connection:
            open_ = await connection.fetchval(
                "SELECT count(*) FROM request WHERE step IN ('fence', 'case', 'keep', 'destroy', 'rows', 'certify', 'gather')"
            )
        if not open_:
            return
        assert time.monotonic() < deadline, f"{open_} requests are stuck"
        await asyncio.sleep(0.5)


@contextlib.contextmanager
def _accusing(model: Model, user: str) -> Any:
    try:
        yield
    except AssertionError as error:
        model.found(f"{user}: {error}")


async def _compared(
    vault: Vault, reader: oracle.Reader, user: str, person: Person, shown: dict[str, Json], mailed: set[str]
) -> None:
    subject = await reader.subject(user)
    if person.erased:
        assert subject is None, "erased, and found"
        assert f"{user}@planted.example" not in mailed, "erased, and in a feed"
        return
    if not (person.orders or person.acts) and subject is None:
        assert user in SHARED, "lost"
        return
    assert subject is not None, "lost"
    draft = await reader.draft(user)
    root = draft.state.root
    members = [s for s, one in (await reader.drafts()).items() if one.state.root == root]
    events = await reader.rows("SELECT count(DISTINCT event_key) FROM event WHERE subject_id = ANY ($1::uuid[])", members)
    assert events[0][0] == len(person.orders) + person.views, f"{events[0][0]} events instead of {len(person.orders) + person.views}"
    acts = [one for one in await reader.ledger(subject) if one.how is How.API]
    assert len(acts) == person.acts, f"{len(acts)} acts in the ledger instead of {person.acts}"
    stands = await reader.stands(user)
    for purpose, said in person.stands.items():  # what was refused already is denied once more, not withdrawn
        agrees = stands[purpose] == "granted" if said == "granted" else stands[purpose] in {"withdrawn", "denied"}
        assert agrees, f"{purpose} is {stands[purpose]} and was {said} last"
    if person.device is not None:
        device = await reader.draft(person.device, "anonymous_id")
        assert device.state.root == root, "its device is not linked"
    plan = vault.plan(ANALYTICS)
    assert plan is not None
    traits = shown.get(plan.id_of(root), {"traits": {}})["traits"]
    assert traits.get("order_count", 0) == len(person.orders), f"{traits.get('order_count')} orders instead of {len(person.orders)}"
    if person.orders:
        total = Decimal(str(traits["lifetime_value"]))
        assert total == sum(person.orders.values()), f"{total} instead of {sum(person.orders.values())}"


# --- scenarios --------------------------------------------------------------------------------------------------------


def storm(kills: int, seed: int, clients: int, every: int, pace: int) -> int:
    """The mix. Answers the exit code."""
    drawn = random.Random(seed)  # noqa: S311 - a storm that can be told again
    model, end = Model(), threading.Event()
    with street(2) as town:
        secrets = town.house.furnish()
        town.house.ask("destinations", "webhook", PUSHED, f"{town.hooks}/storm")
        town.open()
        workers = [Worker(n, town, secrets, model, random.Random(seed * 1000 + n), end) for n in range(clients)]  # noqa: S311
        for worker in workers:
            worker.start()
        done = 0
        while done < kills and not model.findings:
            enough = model.counts["ok"] + drawn.randint(0, 2 * pace)
            awaited("answers between two kills", lambda: model.counts["ok"] >= enough or model.findings)  # noqa: B023
            time.sleep(drawn.random() / 20)
            if town.kill(drawn, KINDS) is None:
                continue
            done += 1
            if done % every == 0 and done < kills:
                _check(town, model, workers)
                print(f"{done} kills, {model.counts}, {town.kills}", file=sys.stderr, flush=True)
        end.set()
        for worker in workers:
            worker.join(PATIENCE + 60)
            if worker.is_alive():
                model.found("a client hangs")
        town.ready()
        town.settled()
        town.rest()
        _judge(town, model)
        orders = sum(len(person.orders) for person in model.people.values())
        erased = sum(person.erased for person in model.people.values())
        return printed(
            {"scenario": "mix", "kills": done, "findings": len(model.findings), "seed": seed, "killed": town.kills,
             "operations": model.counts, "people": len(model.people), "orders": orders, "erased": erased,
             "pages": len(model.told), "deliveries": len(taken(town.folder, "storm"))}
        )  # fmt: skip


def _check(town: Street, model: Model, workers: list[Worker]) -> None:
    """Everybody pauses; what is there is read again and judged; everybody goes on."""
    for worker in workers:
        worker.pause.set()
    for worker in workers:
        awaited("a client to pause", lambda one=worker: one.idle.is_set())
    town.ready()
    _judge(town, model)
    for worker in workers:
        worker.idle.clear()
        worker.pause.clear()


def _judge(town: Street, model: Model) -> None:
    try:
        asyncio.run(judged(town, model))
    except Exception:  # noqa: BLE001 - whatever it is, it is a finding
        model.found(traceback.format_exc(limit=-5))


def import_(kills: int, seed: int, events: int) -> int:
    """20,000 events over HTTP, the server killed 20 times. Answers the exit code."""
    drawn = random.Random(seed)  # noqa: S311 - as above
    model, end = Model(), threading.Event()
    with street(1, worker=False) as town:
        secrets = town.house.furnish()
        town.open()
        sender = Worker(0, town, secrets, model, drawn, end)
        users = [f"imported-{number}" for number in range(events // 20)]
        for user in users:
            model.people[user] = Person()
        sent = []
        for number in range(events):
            user, amount = users[number % len(users)], Decimal(drawn.randint(1, 9999)) / 100
            name = f"n-{number}"
            model.people[user].orders[name] = amount
            sent.append(order(user, float(amount), id=name, order_id=name, at=AT))
        batches = [sent[start : start + 100] for start in range(0, events, 100)]
        marks = sorted(drawn.sample(range(len(batches)), kills))
        done = 0
        senders = [Worker(n, town, secrets, model, random.Random(seed * 1000 + n), end) for n in range(4)]  # noqa: S311
        waiting = list(enumerate(batches))
        lock = threading.Lock()

        def work(one: Worker) -> None:
            nonlocal done
            while True:
                with lock:
                    if not waiting:
                        return
                    number, batch = waiting.pop(0)
                    strike = number in marks
                if strike:
                    timer = threading.Timer(drawn.random() / 10, lambda: _strike(town, drawn))
                    timer.start()
                try:
                    one.batch(*batch)
                except Exception:  # noqa: BLE001 - as above
                    model.found(traceback.format_exc(limit=-4))
                if strike:
                    timer.join()
                    done += 1

        threads = [threading.Thread(target=work, args=(one,)) for one in senders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        del sender
        town.ready()
        town.settled()
        stored = town.house.stored()
        if stored != events:
            model.found(f"{stored} events are there instead of {events}")
        town.rest()
        _judge(town, model)
        return printed(
            {"scenario": "import", "kills": sum(town.kills.values()), "findings": len(model.findings), "seed": seed,
             "events": stored, "operations": model.counts}
        )  # fmt: skip


def _strike(town: Street, drawn: random.Random) -> None:
    """The server dies; if it is just being started again, as soon as it is there."""
    awaited("a server to kill", lambda: town.kill(drawn, ("server",)))


def main() -> int:
    """Ends with 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.storm", description=__doc__)
    parser.add_argument("--scenario", choices=["mix", "import"], default="mix")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--every", type=int, default=50, help="kills between two full readings")
    parser.add_argument("--pace", type=int, default=10, help="answers between two kills, in the mean")
    parser.add_argument("--events", type=int, default=20_000, help="for the import")
    options = parser.parse_args()
    if options.scenario == "import":
        return import_(20 if options.kills is None else options.kills, options.seed, options.events)
    return storm(500 if options.kills is None else options.kills, options.seed, options.clients, options.every, options.pace)


if __name__ == "__main__":
    raise SystemExit(main())
