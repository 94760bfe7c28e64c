"""The room for bodies: how many are on their way or in work at once, and how many bytes, of each sender and of all.

Promises: whatever is sent however slowly, memory has an end; no key holds more than half of the room, and those who have
shown no good key hold a quarter together (threats G7, section 4.2). A body holds no slot while it comes: `enter_desk` takes
the one of a request for the desk once it is there, as `api.admission.tracking` does for tracking calls.
Must not know: what a body means.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from vault.errors import Overloaded

MAX_BODIES: Final = 512  # at once; a process answers some hundred a second
MAX_BYTES: Final = 64 * 1024 * 1024  # of them all, as they came and inflated: a hundred batches of the largest kind
STRANGER: Final = ""
GUEST: Final = "profile_vault.guest"  # in the scope of a request: its body's place in the room
TURN: Final = "profile_vault.turn"  # in the scope of a request for the desk: takes its slot
WHO: Final = "profile_vault.who"  # in the scope of a request: the name of its caller, once known


def who_of(scope: Mapping[str, Any]) -> str:
    """The name of the caller; all strangers have one together."""
    return str(scope.get(WHO, STRANGER))


class Room:
    """Of one process."""

    def __init__(self, bodies: int = MAX_BODIES, size: int = MAX_BYTES) -> None:
        """So many bodies, and so many bytes."""
        self._most, self._largest = bodies, size
        self._bodies: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    @property
    def bodies(self) -> int:
        """How many are there."""
        return self._bodies.total()

    @property
    def size(self) -> int:
        """How many bytes of them."""
        return self._bytes.total()

    def admit(self, who: str) -> "Guest":
        """A place for a body. Raises Overloaded."""
        guest = Guest(self, who)
        self.add(who, 1, 0)
        return guest

    def add(self, who: str, bodies: int, size: int) -> None:
        """Raises Overloaded, and then adds nothing."""
        part = 4 if who == STRANGER else 2
        if (
            self.bodies + bodies > self._most
            or self.size + size > self._largest
            or self._bodies[who] + bodies > self._most // part
            or self._bytes[who] + size > self._largest // part
        ):
            raise Overloaded
        self._bodies[who] += bodies
        self._bytes[who] += size

    def take(self, who: str, bodies: int, size: int) -> None:
        """Undo `add`."""
        for counts, less in ((self._bodies, bodies), (self._bytes, size)):
            counts[who] -= less
            if counts[who] <= 0:
                del counts[who]


class Guest:
    """A body's place."""

    def __init__(self, room: Room, who: str) -> None:
        self._room, self._who, self._size = room, who, 0
        self._there = True

    def grow(self, size: int) -> None:
        """So many more bytes of it came. Raises Overloaded."""
        self._room.add(self._who, 0, size)
        self._size += size

    def is_of(self, who: str) -> None:
        """It is known by now whose it is. Raises Overloaded."""
        if who != self._who:
            self._room.add(who, 1, self._size)
            self._room.take(self._who, 1, self._size)
            self._who = who

    def leave(self) -> None:
        """It is done with."""
        if self._there:
            self._there = False
            self._room.take(self._who, 1, self._size)


def room_of(app: Any) -> Room:
    """The room of this application; made at first use."""
    made = app.state.get("room")
    if not isinstance(made, Room):
        made = app.state.room = Room()
    return made


async def enter_desk(scope: Mapping[str, Any]) -> None:
    """The body is there: take the slot. Raises Overloaded."""
    turn = scope.get(TURN)
    if turn is not None:
        await turn(who_of(scope))
