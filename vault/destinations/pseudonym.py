"""The names under which recipients know a person or a value: keyed 128-bit tags, another one for every destination.

Promises: the same for the same destination for as long as the key lives; two destinations cannot join by them, nor can
anyone go back from one without the key (threats H4). The root's subject id itself never leaves.
"""

import base64
import struct
from typing import Final
from uuid import UUID

from vault.crypto.blind import tag

_PERSON: Final = "pseudonym/person"
_VALUE: Final = "pseudonym/value"
_DESTINATION: Final = struct.Struct(">I")
_OBJECT: Final = struct.Struct(">IH")


def pseudonym(key: bytes, destination: int, root: UUID) -> str:
    """The id of a profile at one destination: 26 lower-case letters and digits. `key` is the vault's pseudonym key."""
    return _text(tag(key, _PERSON, _DESTINATION.pack(destination), root.bytes))


def value_pseudonym(key: bytes, destination: int, number: int, value: bytes) -> str:
    """A stand-in for one value of one object at one destination: equal values have equal stand-ins there, only there."""
    return _text(tag(key, _VALUE, _OBJECT.pack(destination, number), value))


def _text(sixteen: bytes) -> str:
    return base64.b32encode(sixteen).decode("ascii").rstrip("=").lower()
