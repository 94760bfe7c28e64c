"""The key under which a message is stored, and the digest that tells a repeated one from another with its id. Keyed tags.

The id is scoped by source, so that nobody can take another source's ids (threats, ruling 8; G11); the digest is keyed,
because a plain hash of a short message could be guessed. Bytes: docs/formats/tags.md.
"""

import struct
from typing import Final

from vault.crypto.blind import Tagger
from vault.events.message import Message

KEPT_DAYS: Final = 400  # from receipt: longer than any client retries, and than an app stays in a drawer for a year

_SOURCE: Final = struct.Struct(">I")
_DEVICE: Final = "event/device"


class Names:
    """The tags of the messages of one source, for one body."""

    __slots__ = ("_content", "_device", "_key", "_server", "_user")

    def __init__(self, key: bytes, dedup_key: bytes, source_id: int, *, server: bool = False) -> None:
        """`key` is the vault's event key, `dedup_key` its dedup key. `server`: whether it is a server source."""
        self._key = Tagger(key, "event/key", _SOURCE.pack(source_id))
        self._content = Tagger(dedup_key, "event/content")
        self._user = Tagger(dedup_key, _DEVICE, b"user")
        self._device = Tagger(dedup_key, _DEVICE, b"device")
        self._server = server

    def key(self, message_id: str) -> bytes:
        """16 bytes: the name of a message in keys and associated data."""
        return self._key.tag(message_id.encode())

    def digest(self, message: Message) -> bytes:
        """16 bytes over the message as sent, without what clients change when they retry."""
        return self._content.tag(message.digested)

    def device(self, message: Message) -> bytes:
        """16 bytes for whom a stamp speaks: the device of a client source, the user of a server source (else its device).

        Empty if the message names neither.
        """
        user, device = message.user_id, message.anonymous_id
        if user is not None and (self._server or device is None):
            return self._user.tag(user.encode())
        return b"" if device is None else self._device.tag(device.encode())
