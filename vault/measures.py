"""What this process measures of itself below the doors: how long the journal's disk takes, how far its loops are behind.

Figures of a process, so they are kept once a process. Labels are names of loops, codes and names from policies: never a
person, an id or an address. Anybody may add to a figure; only whoever shows them reads `REGISTRY`. docs/reference/metrics.md.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)  # memory, processor time, open files

_DISK: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_STEPS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
_HOURS: Final = (0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)

JOURNAL_FLUSH: Final = Histogram(
    "profile_vault_journal_flush_seconds",
    "Seconds that the journal's disk, or its database, took to make a group of narrowings durable.",
    buckets=_DISK,
    registry=REGISTRY,
)
JOURNAL_FAILURES: Final = Counter(
    "profile_vault_journal_failures",
    "Groups of narrowings that the journal's disk or database did not take.",
    registry=REGISTRY,
)
KEY_SERVICE: Final = Counter(
    "profile_vault_key_service_questions",
    "Questions to a key service that is elsewhere, by how they ended: answered, refused, failed, late.",
    ["outcome"],
    registry=REGISTRY,
)
FEED_LAG: Final = Histogram(
    "profile_vault_feed_lag_seconds",
    "Seconds, at most, from the commit of a change to the number that shows it to feeds; one figure a step.",
    buckets=_STEPS,
    registry=REGISTRY,
)
WORKER_STEP: Final = Histogram(
    "profile_vault_worker_step_seconds",
    "Seconds of a step of the worker that found something to do.",
    ["loop"],
    buckets=_STEPS,
    registry=REGISTRY,
)
WORKER_FAILURES: Final = Counter(
    "profile_vault_worker_failures",
    "Steps of the worker that failed and are tried again.",
    ["loop", "code"],
    registry=REGISTRY,
)
DECISION_AGE: Final = Histogram(
    "profile_vault_decision_age_seconds",
    "Seconds from the database snapshot on which a page was decided until it may leave; over one second it may not.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0),
    registry=REGISTRY,
)
WITHDRAWAL_EFFECT: Final = Histogram(
    "profile_vault_withdrawal_effect_seconds",
    "Seconds from the receipt of a refusal to the page, on record, that tells the destination to delete.",
    ["destination"],
    buckets=_HOURS,
    registry=REGISTRY,
)
