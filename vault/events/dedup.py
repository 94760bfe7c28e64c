"""The key under which a message is stored, and the digest that tells a repeated one from another with its id. Keyed tags.

The id is scoped by source, so that nobody can take another source's ids (threats, ruling 8; G11); the digest is keyed,
because a plain hash of a short message could be guessed. Bytes: docs/formats/tags.md.
"""

import struct
from typing import Final

from vault.crypto.blind import tag
from vault.events.message import Message

KEPT_DAYS: Final = 400  # from receipt: longer than any client retries, and than an app stays in a drawer for a year

_SOURCE: Final = struct.Struct(">I")


def event_key(key: bytes, source_id: int, message_id: str) -> bytes:
    """16 bytes: the name of a message in keys and associated data. `key` is the vault's event key."""
    return tag(key, "event/key", _SOURCE.pack(source_id), message_id.encode())


def content_digest(key: bytes, message: Message) -> bytes:
    """16 bytes over the message as sent, without what clients change when they retry. `key` is the vault's dedup key."""
    return tag(key, "event/content", message.digested)


def device_tag(key: bytes, message: Message, *, server: bool = False) -> bytes:
    """16 bytes for whom a stamp speaks: the device of a client source, the user of a server source (else its device).

    `key` is the vault's dedup key. Empty if the message names neither.
    """
    named = ("user", message.user_id), ("device", message.anonymous_id)
    for what, said in named if server else named[::-1]:
        if said is not None:
            return tag(key, "event/device", what.encode(), said.encode())
    return b""
