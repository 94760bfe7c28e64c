"""What a watcher of a source is told of one message: type, fit name, verdict, purposes, codes. No value, no id, no person.

Pure. The names are those that drop counters keep; the name of an event of special sensitivity is never among them.
"""

from typing import Final

import msgspec

from vault.sources.dropped import Drop

MAX_PARTS: Final = 20  # properties and traits named one by one of one message; a tracking plan has fewer to mend
MAX_LINES: Final = 200  # messages of one body; the rest is counted


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message. `code` None: stored. `purposes`: the mask that it was stored for, or of which none was agreed to."""

    type: str
    name: str | None = None
    code: str | None = None
    purposes: int = 0
    parts: tuple[Drop, ...] = ()  # what of it was not stored
    more_parts: int = 0
    said: str | None = None  # of a body that was refused: the sentence that its sender was answered


class Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of the messages that came together, in their order. `more`: those left out, since nobody could read them."""

    lines: tuple[Line, ...] = ()
    more: int = 0


_decoder: Final = msgspec.json.Decoder(Body)


def cut(lines: list[Line], room: int) -> Body:
    """As many of the lines as there is room for."""
    kept = max(0, min(room, MAX_LINES))
    return Body(tuple(lines[:kept]), max(0, len(lines) - kept))


def pack(body: Body) -> str:
    """As it is kept for a minute or two."""
    return msgspec.json.encode(body).decode()


def unpack(text: str) -> Body:
    """What `pack` made. A release before or after this one may have made it: what it cannot read is counted, not shown."""
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError:
        return Body(more=1)
