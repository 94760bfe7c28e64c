"""How a process that works for long treats its garbage: reference counts free nearly all; the collector is kept rare."""

import gc
from typing import Final

# Measured: with Python's defaults the collector's pauses are the p99 of a batch (26 ms; 1.2 ms with these).
THRESHOLDS: Final = (100_000, 50, 1_000)


def settle() -> None:
    """Take what stands after start-up out of every later collection, and collect seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
