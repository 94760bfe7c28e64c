"""What destinations send and get, beside the feed (whose line is docs/formats/feed.schema.json)."""

from typing import Final

import msgspec

MAX_INCLUDE: Final = 200  # names; as many traits as one answer may hold


class Acknowledged(msgspec.Struct, frozen=True):
    """How many lines were taken down."""

    acknowledged: int


def include_of(text: str) -> tuple[str, ...]:
    """The names of `include=a,b`; those past the limit say nothing."""
    return tuple(name for name in text.split(",", MAX_INCLUDE)[:MAX_INCLUDE] if name)
