"""Made-up customers of a shop, always the same: their messages, oldest first, and what each destination must see of them.

What is expected is computed here from the purchases, in `Decimal`, by the rules that the policies state; the vault is not
asked. Most buy once or twice, a few often; some never agreed, some withdraw a purpose at a later purchase.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

BEST: Final = Decimal(200)  # best_customers
OPENED: Final = 300  # days before today: nothing is in the future, and no choice has expired
CENT: Final = Decimal("0.01")


class Purchase(NamedTuple):
    """One order. `hour` counts from the day that the shop opened."""

    hour: int
    customer: int
    nth: int
    dollars: Decimal


class Customer(NamedTuple):
    """Who agreed to what, and took what back at which purchase (0: never)."""

    number: int
    analytics: bool
    advertising: bool
    withdraws_advertising: int
    withdraws_analytics: int
    purchases: tuple[Purchase, ...]

    @property
    def user(self) -> str:
        return f"buyer-{self.number:05d}"

    @property
    def email(self) -> str:
        return f"buyer{self.number}@shop.example"

    def agrees(self, nth: int) -> dict[str, bool]:
        """The consent stamp at the n-th purchase."""
        return {
            "functional": _share(self.number, "functional") < 90,
            "analytics": self.analytics and not 0 < self.withdraws_analytics <= nth,
            "advertising": self.advertising and not 0 < self.withdraws_advertising <= nth,
        }

    def agrees_at_last(self, category: str) -> bool:
        return self.agrees(len(self.purchases))[category]


def _share(customer: int, what: str) -> int:
    """A number from 0 to 99, fixed for this customer and this question."""
    return hashlib.sha256(f"{what}:{customer}".encode()).digest()[0] * 100 // 256


def _figure(customer: int, what: str, below: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{what}:{customer}".encode()).digest()[:4], "big") % below


def customers(count: int) -> list[Customer]:
    made = []
    for number in range(1, count + 1):
        luck = _share(number, "orders")
        orders = 1 if luck < 45 else 2 if luck < 65 else 3 + luck % 4 if luck < 96 else 10 + luck % 8
        start = _figure(number, "start", 24 * 120)
        purchases = []
        for nth in range(1, orders + 1):
            hour = start + (nth - 1) * (5 + _figure(number, "pause", 60))
            dollars = Decimal(100 + _figure(number, f"price {nth}", 9900)) * CENT
            purchases.append(Purchase(hour, number, nth, dollars))
        made.append(
            Customer(
                number,
                analytics=_share(number, "analytics") < 70,
                advertising=_share(number, "advertising") < 40,
                withdraws_advertising=3 if _share(number, "ads back") < 20 else 0,
                withdraws_analytics=4 if _share(number, "analytics back") < 10 else 0,
                purchases=tuple(purchases),
            )
        )
    return made


def moment(purchase: Purchase) -> str:
    opened = datetime.combine(datetime.now(UTC).date() - timedelta(days=OPENED), time(), UTC)
    return (opened + timedelta(hours=purchase.hour)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def messages(people: list[Customer]) -> Iterator[dict[str, Any]]:
    """Everything that the shop's app sends, in the order of time."""
    by_number = {one.number: one for one in people}
    for purchase in sorted(purchase for one in people for purchase in one.purchases):
        customer = by_number[purchase.customer]
        at = moment(purchase)
        common = {
            "userId": customer.user,
            "timestamp": at,
            "context": {"consent": {"categoryPreferences": customer.agrees(purchase.nth)}},
        }
        key = f"{customer.user}-{purchase.nth}"
        if purchase.nth == 1:
            traits = {"email": customer.email, "firstName": f"Buyer{customer.number}"}
            yield {"type": "identify", "messageId": f"i-{key}", **common, "traits": traits}
        if purchase.nth in {customer.withdraws_advertising, customer.withdraws_analytics}:
            event = "Segment Consent Preference Updated"
            yield {"type": "track", "messageId": f"w-{key}", **common, "event": event, "properties": {}}
        properties = {"order_id": f"order-{key}", "revenue": float(purchase.dollars), "currency": "USD", "quantity": 1}
        yield {"type": "track", "messageId": f"o-{key}", **common, "event": "Order Completed", "properties": properties}


def ndjson(people: list[Customer]) -> str:
    return "".join(json.dumps(message) + "\n" for message in messages(people))


Bought = tuple[Decimal, int, str, str]  # lifetime value, number of orders, first and last


class Expected(NamedTuple):
    """What the feeds must say, whatever happened on the way."""

    warehouse: Counter[Bought]  # of everyone who allows analytics
    mailed: set[str]
    hashed: set[str]
    best: set[str]  # hashes
    supported: set[str]


def expected(people: list[Customer]) -> Expected:
    spent = {one.number: sum((p.dollars for p in one.purchases), Decimal(0)) for one in people}
    told = [one for one in people if one.agrees_at_last("advertising")]
    return Expected(
        Counter(
            (spent[one.number], len(one.purchases), moment(one.purchases[0]), moment(one.purchases[-1]))
            for one in people
            if one.agrees_at_last("analytics")
        ),
        {one.email for one in told},
        {_hash(one.email) for one in told},
        {_hash(one.email) for one in told if spent[one.number] >= BEST},
        {one.email for one in people},
    )


def _hash(email: str) -> str:
    return hashlib.sha256(email.encode()).hexdigest()
