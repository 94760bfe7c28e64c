"""The messages of a benchmark: the same bytes for every side, from a seed.

Thirty per cent are `identify` with three traits, the rest `track`; a third of these are orders, which feed computed traits
and the audience. Messages name known people at random; `newcomers` of a hundred name somebody new. Every message carries a
stamp that agrees to everything, as consent tools send it. Time moves on by a millisecond a message.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from vault.catalogue.load import Catalogue

BATCH: Final = 100
IDENTIFY: Final = 0.30
ORDERS: Final = 0.33  # of the tracks
STEADY: Final = frozenset({"email", "phone"})  # sent once: a change of address is another benchmark
_CONSENT: Final = {"categoryPreferences": {"functional": True, "analytics": True, "advertising": True}}
_CONTEXT: Final = {
    "library": {"name": "analytics-python", "version": "2.3.3"},
    "ip": "203.0.113.7",
    "locale": "en-GB",
    "timezone": "Europe/Berlin",
    "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "page": {"path": "/products/chairs", "url": "https://shop.example/products/chairs", "title": "Chairs"},
    "consent": _CONSENT,
}
_VALUE: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass
class Workload:
    """A stream of batches. Two with the same seed and catalogue are the same byte for byte."""

    catalogue: Catalogue
    people: int
    seed: int = 7
    newcomers: float = 0.05
    orders_first: bool = True
    first_traits: int = 1000  # at most so many when everyone is made
    now: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(hours=6))

    def __post_init__(self) -> None:
        """The traits that may be said, by name."""
        self._random = random.Random(self.seed)
        self._sent = 0
        self._known = 0
        self._from = 0
        texts = sorted(n for n, trait in self.catalogue.traits.items() if trait.type == "text")
        self.names = [name for name in texts if name not in STEADY]

    def preload(self) -> Iterator[bytes]:
        """Everyone says all their traits, and a third of them order once."""
        messages: list[dict[str, Any]] = []
        for _ in range(self.people):
            messages.append(self._newcomer(min(self.first_traits, len(self.names))))
            if self.orders_first and self._random.random() < ORDERS:
                messages.append(self._order(self._known - 1))
            while len(messages) >= BATCH:
                yield _body(messages[:BATCH])
                del messages[:BATCH]
        if messages:
            yield _body(messages)

    def batches(self, count: int, *, tracks_only: bool = False) -> list[bytes]:
        """The next bodies."""
        make = self._track if tracks_only else self._message
        return [_body([make() for _ in range(BATCH)]) for _ in range(count)]

    def restrict(self, first: int) -> None:
        """From now on nobody of the first so many is named."""
        self._from = first

    def named(self, kind: str, user: str, **rest: Any) -> dict[str, Any]:
        """One message of a person with a name of their own."""
        return {**self._say(kind, 0, **rest), "userId": user}

    def viewed(self) -> dict[str, Any]:
        """What somebody looked at: event and properties."""
        properties = self._product() | {"url": "https://shop.example/products/chairs/oak", "currency": "USD"}
        return {"event": "Product Viewed", "properties": properties}

    def _message(self) -> dict[str, Any]:
        if self._random.random() < self.newcomers:
            return self._newcomer(3)
        if self._random.random() < IDENTIFY:
            return self._say("identify", self._somebody(), traits=self._traits(3))
        return self._track()

    def _track(self) -> dict[str, Any]:
        person = self._somebody()
        if self._random.random() < ORDERS:
            return self._order(person)
        return self._say("track", person, **self.viewed())

    def _somebody(self) -> int:
        return self._random.randrange(self._from, self._known)

    def _newcomer(self, traits: int) -> dict[str, Any]:
        person = self._known
        self._known += 1
        return self._say("identify", person, traits={"email": f"p{person}@example.com", **self._traits(traits)})

    def _order(self, person: int) -> dict[str, Any]:
        products = [
            self._product() | {"quantity": self._random.randint(1, 3)} for _ in range(self._random.randint(1, 3))
        ]
        properties = {
            "order_id": f"o-{self._sent}",
            "revenue": self._random.randint(100, 15_000) / 100,
            "currency": "USD",
            "quantity": len(products),
            "products": products,
        }
        return self._say("track", person, event="Order Completed", properties=properties)

    def _product(self) -> dict[str, Any]:
        number = self._random.randint(1, 5000)
        return {
            "product_id": f"product-{number}",
            "sku": f"SKU-{number:06}",
            "name": f"A chair of oak, number {number}",
            "brand": "Bench & Sons",
            "category": "Furniture",
            "price": self._random.randint(100, 50_000) / 100,
        }

    def _traits(self, count: int) -> dict[str, str]:
        chosen = self._random.sample(self.names, min(count, len(self.names)))
        return {name: "".join(self._random.choices(_VALUE, k=40)) for name in chosen}

    def _say(self, kind: str, person: int, **rest: Any) -> dict[str, Any]:
        self._sent += 1
        self.now += timedelta(milliseconds=1)
        return {
            "type": kind,
            "messageId": f"{self.seed}-{self._sent}-7e9a1f5c",
            "userId": f"user-{person}",
            "timestamp": self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "context": _CONTEXT,
            **rest,
        }


def _body(messages: list[dict[str, Any]]) -> bytes:
    return json.dumps({"batch": messages}, separators=(",", ":")).encode()
