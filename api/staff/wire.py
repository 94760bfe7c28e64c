"""What staff and their programs send and get. Bodies refuse members that they do not know (threats G13)."""

from uuid import UUID

import msgspec


class Find(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/subjects/find. In a body, so that the value stands in no path, log or history."""

    kind: str
    value: str

    def __repr__(self) -> str:
        return f"Find(kind={self.kind!r}, ...)"


class Found(msgspec.Struct, frozen=True):
    """A name for a person that means nothing to anyone else, for an hour."""

    ref: str


class Opened(msgspec.Struct, frozen=True):
    """The id of the request that was opened."""

    request: UUID
