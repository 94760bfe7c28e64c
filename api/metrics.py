"""Counters for operators. Labels are route templates, methods, statuses and drop codes: never a name, id or address."""

from collections import Counter as Tally
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# seconds; a feed page of 1,000 profiles takes tenths, a single event a few thousandths
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The figures of one process. One per application, so that two in a test do not share them."""

    def __init__(self) -> None:
        """All begin at zero."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "profile_vault_requests",
            "HTTP requests answered.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "profile_vault_request_seconds",
            "Seconds from the first byte of a request to the last of its answer.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._stored = Counter(
            "profile_vault_messages_stored", "Tracking messages made durable.", registry=self._registry
        )
        self._dropped = Counter(
            "profile_vault_messages_dropped", "Tracking messages not stored.", ["code"], registry=self._registry
        )
        self._backlog = Gauge(
            "profile_vault_backlog", "Rows that wait for the worker.", ["queue"], registry=self._registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered. `route` is a template."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def received(self, stored: int, drop_codes: Iterable[str]) -> None:
        """One batch was taken."""
        self._stored.inc(stored)
        for code, count in Tally(drop_codes).items():
            self._dropped.labels(code).inc(count)

    def waiting(self, queue: str, rows: int) -> None:
        """How many rows wait in a queue of the database now."""
        self._backlog.labels(queue).set(rows)

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self._registry)
