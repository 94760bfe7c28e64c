"""Things that stand in for the world: a clock that moves when told."""

from datetime import UTC, datetime

from vault.clock import SECOND, Micros, from_datetime

START = from_datetime(datetime(2026, 3, 2, 9, 0, tzinfo=UTC))


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: Micros = START) -> None:
        self.at = at

    def now(self) -> Micros:
        """Microseconds since 1970-01-01 UTC."""
        return self.at

    def advance(self, seconds: float = 0, *, micros: int = 0) -> Micros:
        """Moves on; answers the new time."""
        self.at = Micros(self.at + round(seconds * SECOND) + micros)
        return self.at
