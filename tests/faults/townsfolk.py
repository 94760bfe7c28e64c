"""The clients of a storm: each has people of its own and some that all share, and writes down what must be true of them.

As in Jepsen every call ends in one of three ways: an answer (ok), a refusal (fail), or silence (unknown). What is unknown
is asked again with the same messageId until it is known, so that in the end the model is exact.
"""

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

from tests.faults.client import Told, bearer
from tests.faults.street import PATIENCE, Street
from tests.worlds import identify, order, track

CHOSEN: Final = ("personalisation", "marketing", "advertising")
DESTINATIONS: Final = ("warehouse", "email-tool", "ad-platform", "support-desk")
AT: Final = "2026-03-01T10:00:00Z"
SHARED: Final = tuple(f"shared-{number}" for number in range(4))
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
        self.checked: dict[str, int] = {}  # what the last state audit looked at
        self.lock = threading.Lock()

    def found(self, fault: str) -> None:
        """A finding."""
        with self.lock:
            self.findings.append(fault)
        print("FINDING", fault, file=sys.stderr, flush=True)


class Worker(threading.Thread):
    """One client: its own people, the shared ones, and a reader of one destination."""

    def __init__(
        self, number: int, town: Street, secrets: Any, model: Model, drawn: random.Random, end: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self.number, self.town, self.secrets, self.model, self.drawn, self.end = (
            number,
            town,
            secrets,
            model,
            drawn,
            end,
        )
        self.destination = DESTINATIONS[number % len(DESTINATIONS)]
        self.cursor: str | None = None
        self.mine: list[str] = []
        self.made = 0
        self.pause = threading.Event()
        self.idle = threading.Event()
        self._http = httpx.Client(timeout=60)

    def run(self) -> None:
        steps: list[tuple[Callable[[], None], int]] = [
            (self.buy, 50), (self.arrive, 12), (self.choose, 18), (self.read, 12),
            (self.link, 6), (self.access, 3), (self.erase, 5),
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
        except Exception:
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
            if answer is not None and _counts(answer):
                self._count("ok" if answer.is_success else "fail")
                return answer
            self._count("unknown")
            if time.monotonic() > deadline:
                raise AssertionError(f"{method} {path.partition('?')[0]}: no answer within {PATIENCE:.0f} seconds")
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
        act = {
            "userId": user,
            "messageId": f"c-{self.number}-{self.made}",
            "choices": [{"purpose": purpose, "decision": decision}],
        }
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
        return (
            self.ask("POST", "/v1/subjects/find", json=wanted, headers=bearer(self.secrets.officer)).json().get("ref")
        )


def _counts(answer: httpx.Response) -> bool:
    """Whether it is known now what became of what was asked."""
    if answer.status_code == 409:
        return answer.json().get("code") not in {"retry", "not_ready"}
    return answer.status_code < 500 and answer.status_code != 429
