"""A key service that is elsewhere, asked so that nothing here hangs on it.

Promises: an answer within a deadline, or `Unavailable`; the same question asked by many at once is asked once (threats
H17); few questions at a time; throttling and faults of the service are tried again a few times, later each time; after
some failures in a row it is not asked at all for a moment, then by one (a circuit breaker). On the event loop it is never
waited for: that is `pending`. What it sealed is opened at once and compared, where this process may: a wrong answer is
never kept (threats H6).
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from vault.crypto.keyservice import AWAY, KeyService, away, lock_of, pending
from vault.errors import Unavailable, Unreadable, VaultError
from vault.ids import random_bytes
from vault.measures import KEY_SERVICE

CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 3.0  # services answer in some milliseconds; behind this an outage is the better guess
DEADLINE: Final = 4.0  # for one question with all its tries; whoever waits is a request or a start
LONG_DEADLINE: Final = 60.0  # for making and destroying the service's own keys: dozens of questions, by an operator
AT_ONCE: Final = 16  # threads; more would only wait in the service
TRIES: Final = 3
FIRST_PAUSE: Final = (
    0.1  # seconds, doubled each time, and up to half of it by chance: a fleet does not come back as one
)
FAILURES: Final = 3  # in a row
OPEN_SECONDS: Final = 2.0  # with the pause of a start, recovery is seen in less than five seconds (threats 4.2)

_Answer = TypeVar("_Answer")


class Busy(Unavailable):
    """The service answered that it cannot now: throttled, or a fault of its own. Worth another try."""

    def __init__(self, status: int) -> None:
        """`status`: as HTTP has it."""
        what = "answers that it is asked too often" if status == 429 else f"has a fault of its own ({status})"
        super().__init__(f"The key service {what}.", code=AWAY)


class Breaker:
    """Counts failures in a row. Shut it lets through; open it refuses; then it lets one through, to see."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """`monotonic` tells seconds."""
        self._now = monotonic
        self._failures = 0
        self._until = 0.0
        self._probing = False
        self.fault: str | None = None  # why, while the last question failed

    def admit(self) -> None:
        """Raises `Unavailable` while open."""
        if self._failures < FAILURES:
            return
        if self._now() < self._until or self._probing:
            raise Unavailable(self.fault or "", code=AWAY)
        self._probing = True

    def passed(self) -> None:
        """The service answered."""
        self._failures, self._probing, self.fault = 0, False, None

    def failed(self, why: str) -> None:
        """It did not."""
        self._failures, self._probing, self.fault = self._failures + 1, False, why
        self._until = self._now() + OPEN_SECONDS


class Guarded:
    """Any service, behind deadline, breaker and single flight."""

    def __init__(
        self,
        service: KeyService,
        *,
        deadline: float = DEADLINE,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wraps `service`. Asks nothing yet."""
        self._service = service
        self._deadline = deadline
        self._pause = pause
        self._breaker = Breaker(monotonic)
        self._lock = threading.Lock()
        self._flights: dict[tuple[Any, ...], Future[Any]] = {}
        self._flying = 0

    @property
    def instant(self) -> bool:
        """As the service itself."""
        return self._service.instant

    @property
    def whole(self) -> bool:
        """As the service itself."""
        return self._ask(("whole",), lambda: self._service.whole)

    @property
    def fault(self) -> str | None:
        """Why the last question failed; None if it was answered."""
        return self._breaker.fault

    def seal(self, key_name: str, plaintext: bytes) -> bytes:
        """As the service itself; and what it made opens, where this process may see that."""
        sealed = self._ask(("seal", object()), lambda: self._service.seal(key_name, plaintext))
        if self.opens(key_name) and self.unseal(key_name, sealed) != plaintext:
            raise Unreadable
        return sealed

    def unseal(self, key_name: str, sealed: bytes) -> bytes:
        """As the service itself."""
        return self._ask(("unseal", key_name, sealed), lambda: self._service.unseal(key_name, sealed))

    def opens(self, key_name: str) -> bool:
        """As the service itself."""
        return self._ask(("opens", lock_of(key_name)), lambda: self._service.opens(key_name))

    def seals(self, key_name: str) -> bool:
        """As the service itself."""
        return self._ask(("seals", lock_of(key_name)), lambda: self._service.seals(key_name))

    def outdated(self, sealed: bytes) -> bool:
        """As the service itself."""
        return self._ask(("outdated", sealed), lambda: self._service.outdated(sealed))

    def prepare(self, locks: Iterable[str]) -> list[str]:
        """As the service itself."""
        wanted = tuple(locks)
        return self._ask(("prepare", wanted), lambda: self._service.prepare(wanted), LONG_DEADLINE)

    def renew(self, lock: str) -> None:
        """As the service itself; not tried twice, since each makes one more."""
        self._ask(("renew", object()), lambda: self._service.renew(lock), LONG_DEADLINE, tries=1)

    def retire(self, lock: str) -> int | None:
        """As the service itself."""
        return self._ask(("retire", lock), lambda: self._service.retire(lock), LONG_DEADLINE)

    def close(self) -> None:
        """As the service itself."""
        self._service.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _ask(
        self,
        key: tuple[Any, ...],
        question: Callable[[], _Answer],
        deadline: float | None = None,
        *,
        tries: int = TRIES,
    ) -> _Answer:
        """The answer, of this question or of the same one that is under way. Raises `Unavailable`."""
        if on_loop():
            raise pending()
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                if self._flying >= AT_ONCE:
                    raise away("has more questions waiting than it answers")
                self._breaker.admit()
                flight = self._take_off(key, question, tries)
        seconds = self._deadline if deadline is None else deadline
        try:
            answer: _Answer = flight.result(seconds)
        except TimeoutError:
            raise self._given_up(key, flight) from None
        return answer

    def _take_off(self, key: tuple[Any, ...], question: Callable[[], Any], tries: int) -> "Future[Any]":
        """With the lock in hand. Raises `Unavailable` where the machine has no thread left: that passes, too."""
        flight: Future[Any] = Future()
        try:
            threading.Thread(target=self._fly, args=(key, flight, question, tries), daemon=True).start()
        except RuntimeError:
            error = away("cannot be asked: this machine has no thread to spare")
            self._breaker.failed(error.hint)
            raise error from None
        self._flights[key] = flight
        self._flying += 1
        return flight

    def _fly(self, key: tuple[Any, ...], flight: "Future[Any]", question: Callable[[], Any], tries: int) -> None:
        """In a thread of its own: one that hangs in a library of the service holds nobody else."""
        answer: Any = None
        error: VaultError | None = None
        try:
            answer = self._tried(question, tries)
        except VaultError as caught:
            error = caught
        except Exception as caught:  # noqa: BLE001 (of a library of the service; its text may hold anything)
            error = away(f"failed ({type(caught).__name__})")
        with self._lock:
            self._flying -= 1
            if self._flights.get(key) is flight:  # else it was given up, and that was counted
                del self._flights[key]
                self._judge(error)
        if error is None:
            flight.set_result(answer)
        else:
            flight.set_exception(error)

    def _tried(self, question: Callable[[], _Answer], tries: int) -> _Answer:
        for turn in range(tries - 1):
            try:
                return question()
            except Busy:
                self._pause(FIRST_PAUSE * 2**turn * (1 + random_bytes(1)[0] / 512))
        return question()

    def _judge(self, error: VaultError | None) -> None:
        """A refusal, and bytes that do not open, are answers."""
        if error is not None and error.reason == AWAY:
            KEY_SERVICE.labels("failed").inc()
            self._breaker.failed(error.hint)
        else:
            KEY_SERVICE.labels("answered" if error is None else "refused").inc()
            self._breaker.passed()

    def _given_up(self, key: tuple[Any, ...], flight: "Future[Any]") -> Unavailable:
        error = away("does not answer in time")
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
                KEY_SERVICE.labels("late").inc()
                self._breaker.failed(error.hint)
        return error

    def __repr__(self) -> str:
        return f"Guarded({self._service!r})"


def on_loop() -> bool:
    """True on a thread that runs an event loop: whoever waits here makes everybody wait."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
