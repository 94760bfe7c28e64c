"""Figures for operators. Labels are route templates, methods, statuses, codes and names from policies: never an id or address.

Counters are of this process; gauges of the vault are asked of the database when the page is asked for, so every process
shows the same. What is measured below the doors is in `vault.measures`. docs/reference/metrics.md has them all.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from api.admission import Door
from api.gate import Gate
from vault.flows.figures import Figures
from vault.measures import REGISTRY

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# seconds; a feed page of 1,000 profiles takes tenths, a single event a few thousandths
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The figures of one application. One each, so that two in a test do not share them."""

    def __init__(self) -> None:
        """All begin at zero."""
        self.registry = CollectorRegistry()
        self._requests = self._counter("requests", "HTTP requests answered.", "method", "route", "status")
        self._seconds = Histogram(
            "profile_vault_request_seconds",
            "Seconds from the first byte of a request to the last of its answer.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._stored = self._counter("messages_stored", "Tracking messages made durable.")
        self._dropped = self._counter("messages_dropped", "Tracking messages not stored, by drop code.", "code")
        self._sent_away = self._counter("sent_away", "Requests refused because too much waited (503).", "door", "code")
        self._limited = self._counter("rate_limited", "Requests over the rate of a credential (429).", "kind")
        self._busy = self._gauge("busy", "Requests at work now.", "door")
        self._queue = self._gauge("waiting", "Requests that wait for a slot now.", "door")
        self._connections = self._gauge("database_connections", "Connections lent out now.", "pool")
        self._up = self._gauge("database_up", "Did the database answer this page? 1 or 0.")
        self._backlog = self._gauge("backlog", "Rows that wait for the worker, 10,000 at most.", "queue")
        self._due_for = self._gauge("due_seconds", "Seconds that the oldest due entry has been due.")
        self._deadline = self._gauge(
            "request_deadline_seconds", "Seconds to the nearest legal deadline of an open request; NaN if none is open."
        )
        self._audit = self._gauge("audit_entries", "Leaves of the audit log under its signed head.")
        self._numbered = self._gauge("changes_numbered", "The number of the newest change that feeds can see.")
        self._worker = self._gauge("worker_seen", "Does some worker hold a lease? 1 or 0.")
        self._findings = self._gauge("integrity_findings", "Things that the state audit finds wrong, 10,000 at most.")
        self._swept = self._gauge("sweep_age_seconds", "Since the state audit was last through; NaN before that.")
        self._behind = self._gauge("webhook_behind", "Changes, at most, not offered to it yet.", "destination")
        self._failures = self._gauge("webhook_failures", "Failed deliveries in a row.", "destination")
        self._disabled = self._gauge("webhook_disabled", "Did the recipient end it (410)? 1 or 0.", "destination")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"profile_vault_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"profile_vault_{name}", text, labels, registry=self.registry)

    # --- as it happens ------------------------------------------------------------------------------------------------

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered. `route` is a template."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def received(self, stored: int, drop_codes: Iterable[str]) -> None:
        """One batch was taken."""
        self._stored.inc(stored)
        for code, count in Tally(drop_codes).items():
            self._dropped.labels(code).inc(count)

    def sent_away(self, door: Door, code: str) -> None:
        """A request found too much waiting before it."""
        self._sent_away.labels(door, code).inc()

    def limited(self, kind: str) -> None:
        """A credential asked more often than it may."""
        self._limited.labels(kind).inc()

    # --- when the page is asked for -----------------------------------------------------------------------------------

    def at_work(self, gates: Mapping[Door, Gate], connections: Mapping[str, int]) -> None:
        """What this process does now."""
        for door, gate in gates.items():
            self._busy.labels(door).set(gate.busy)
            self._queue.labels(door).set(gate.waiting)
        for pool, count in connections.items():
            self._connections.labels(pool).set(count)

    def looked(self, found: Figures | None) -> None:
        """What the database says; None when it did not answer: then its old figures are not shown as new ones."""
        self._up.set(found is not None)
        self._backlog.clear()
        for gauge in (self._behind, self._failures, self._disabled):
            gauge.clear()
        if found is None:
            gauges = (
                self._due_for,
                self._deadline,
                self._audit,
                self._numbered,
                self._worker,
                self._findings,
                self._swept,
            )
            for gauge in gauges:
                gauge.set(float("nan"))
            return
        for queue, rows in found.waiting.items():
            self._backlog.labels(queue).set(rows)
        self._due_for.set(found.due_for)
        self._deadline.set(float("nan") if found.deadline_in is None else found.deadline_in)
        self._audit.set(found.audit_size)
        self._numbered.set(found.numbered)
        self._worker.set(found.worker_seen)
        self._findings.set(found.findings)
        self._swept.set(float("nan") if found.swept_for is None else found.swept_for)
        for hook in found.webhooks:
            self._behind.labels(hook.destination).set(hook.behind)
            self._failures.labels(hook.destination).set(hook.failures)
            self._disabled.labels(hook.destination).set(hook.disabled)

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)
