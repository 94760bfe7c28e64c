"""A request of a person: its states, its steps and the statutory clock. Pure: time is passed in.

One month from receipt (GDPR Art. 12(3)): the same day of the next month, or its last day where it has none (Regulation
1182/71 Art. 3). An extension adds two months. The date is taken in UTC and the time of day is kept, so nothing is ever due
later than a controller at or east of Greenwich owes it; weekends and holidays, which the Regulation would add, are not.
"""

from calendar import monthrange
from enum import StrEnum
from typing import Final, Literal

from vault.clock import Micros, from_datetime, to_datetime
from vault.errors import Conflict

MONTHS: Final = 1
EXTENSION_MONTHS: Final = 2  # Art. 12(3): "by two further months"

RequestType = Literal["access", "portability", "erasure"]
TYPES: Final[tuple[RequestType, ...]] = ("access", "portability", "erasure")


class State(StrEnum):
    """Where a request stands. What is open is never called done."""

    RECEIVED = "received"
    VERIFYING = "verifying"  # the person's identity is in doubt and was asked for
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    PARTLY_COMPLETED = "partly_completed"  # our part is done; a recipient has not answered
    REFUSED = "refused"
    CANCELLED = "cancelled"


NEXT: Final[dict[State, frozenset[State]]] = {
    State.RECEIVED: frozenset({State.VERIFYING, State.IN_PROGRESS, State.REFUSED, State.CANCELLED}),
    State.VERIFYING: frozenset({State.IN_PROGRESS, State.REFUSED, State.CANCELLED}),
    State.IN_PROGRESS: frozenset({State.COMPLETED, State.PARTLY_COMPLETED, State.REFUSED, State.CANCELLED}),
    State.PARTLY_COMPLETED: frozenset({State.COMPLETED}),
    State.COMPLETED: frozenset(),
    State.REFUSED: frozenset(),
    State.CANCELLED: frozenset(),
}
OPEN: Final = frozenset(state for state, following in NEXT.items() if following)
ANSWERED: Final = frozenset({State.COMPLETED, State.PARTLY_COMPLETED, State.REFUSED, State.CANCELLED})


class Step(StrEnum):
    """What is to be done next. A step is taken once: whoever takes it moves the row on in the same transaction."""

    # access and portability
    GATHER = "gather"  # read, open, pack, seal
    OFFER = "offer"  # the archive waits to be fetched
    # erasure, in this order (design section 10)
    FENCE = "fence"  # close the profile to every reader and writer
    CASE = "case"  # what recipients need to delete, sealed under a key of its own
    KEEP = "keep"  # what law keeps, sealed anew under a subject that nothing finds
    DESTROY = "destroy"  # the keys of every member
    ROWS = "rows"  # everything else that was stored
    CERTIFY = "certify"  # the first revision of the certificate
    ANSWERS = "answers"  # recipients acknowledge, or their time passes
    DONE = "done"


FIRST: Final[dict[RequestType, Step]] = {
    "access": Step.GATHER,
    "portability": Step.GATHER,
    "erasure": Step.FENCE,
}


def check_move(now: State, then: State) -> None:
    """Raises `Conflict` unless a request may go from one state to the other. Staying is no move."""
    if then != now and then not in NEXT[now]:
        raise Conflict(f"A request that is {now} cannot become {then}.")


def due(received: Micros, *, extended: bool = False) -> Micros:
    """When the answer is owed at the latest: one month after receipt, three when extended."""
    return months_after(received, MONTHS + EXTENSION_MONTHS * extended)


def may_extend(received: Micros, now: Micros) -> bool:
    """True while the person can still be told of an extension: within the first month (Art. 12(3))."""
    return now <= due(received)


def months_after(at: Micros, months: int) -> Micros:
    """The same day `months` later at the same time of day, or the last day of a month that has no such day."""
    moment = to_datetime(at)
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    month += 1
    return from_datetime(moment.replace(year=year, month=month, day=min(moment.day, monthrange(year, month)[1])))
