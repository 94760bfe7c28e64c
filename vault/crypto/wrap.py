"""A data key wrapped for a purpose, and the commitment that every wrap of it vouches for. Bytes: docs/formats/wraps.md.

Knows masks and numbers, not what they mean. Three steps, each one function:
  derive   data key -> field key 32 | commitment 32, bound to compartment, subject, purposes and generation: BLAKE2b keyed
           by it (ADR 0086)
  wrap     AES-256-GCM of the data key under a key derived from the epoch key and the subject; the nonce is the front of
           the commitment, itself the output of a PRF under the fresh data key (ADR 0022)
  unwrap   the data key, and then the commitment compared in constant time before anything is opened (threats A11)
How many wraps there are is in none of the contexts: taking one away leaves the others as they are.
"""

import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.crypto.aead import NONCE_BYTES, TAG_BYTES
from vault.crypto.mac import KEY_BYTES, check_key, person
from vault.errors import Unreadable

WrappingKey = AESGCM
"""A ready cipher of one subject, purpose and epoch. Other rooms pass it on; they do not look inside."""

COMMITMENT_BYTES: Final = 32
WRAP_BYTES: Final = KEY_BYTES + TAG_BYTES

_PLACE: Final = struct.Struct(">16s16sQH")  # compartment id | subject | purposes | generation
_WRAP_KEY: Final = struct.Struct(">16sBH")  # subject | purpose | epoch
_AS_DATA_KEY: Final = person("C2")
_AS_EPOCH_KEY: Final = person("K2")
_FOR: Final = struct.Struct(">BH")  # purpose | epoch


def place_of(compartment_id: bytes, subject: bytes, purposes: int, generation: int) -> bytes:
    """What a data key belongs to, as 42 bytes of fixed layout; all of it is bound into the key itself.

    Ids are 16 bytes; `purposes` is the mask of the purposes that the values were collected for.
    """
    return _PLACE.pack(compartment_id, subject, purposes, generation)


def keys_of(data_key: bytes, place: bytes) -> tuple[bytes, bytes]:
    """(field key, commitment) of a data key in its place."""
    both = hashlib.blake2b(place, key=check_key(data_key), person=_AS_DATA_KEY).digest()  # 64 bytes
    return both[:KEY_BYTES], both[KEY_BYTES:]


def wrapping_key(epoch_key: bytes, subject: bytes, purpose: int, epoch: int) -> WrappingKey:
    """The cipher that wraps this subject's data keys for one purpose in one epoch. Not to be kept beyond the call."""
    place = _WRAP_KEY.pack(subject, purpose, epoch)
    return WrappingKey(
        hashlib.blake2b(place, digest_size=KEY_BYTES, key=check_key(epoch_key), person=_AS_EPOCH_KEY).digest()
    )


def wrap(cipher: WrappingKey, data_key: bytes, place: bytes, commitment: bytes, purpose: int, epoch: int) -> bytes:
    """48 bytes: the data key sealed for `purpose`. `cipher` is `wrapping_key(...)` of the same purpose and epoch."""
    context = _wrap_context(place, commitment, purpose, epoch)
    return cipher.encrypt(commitment[:NONCE_BYTES], data_key, context)


def unwrap(cipher: WrappingKey, blob: bytes, place: bytes, commitment: bytes, purpose: int, epoch: int) -> bytes:
    """The field key. Raises `Unreadable` if the wrap is not of this place, or the data key is not the committed one."""
    if len(blob) != WRAP_BYTES or len(commitment) != COMMITMENT_BYTES:
        raise Unreadable
    try:
        data_key = cipher.decrypt(commitment[:NONCE_BYTES], blob, _wrap_context(place, commitment, purpose, epoch))
    except InvalidTag:
        raise Unreadable from None
    field_key, derived = keys_of(data_key, place)
    if not hmac.compare_digest(derived, commitment):
        raise Unreadable
    return field_key


class Deriver:
    """`wrapping_key` of one epoch key for many subjects. Holds the key, mixed in once: lives as long as one pass."""

    __slots__ = ("_begun", "_suffix", "epoch")

    def __init__(self, epoch_key: bytes, purpose: int, epoch: int) -> None:
        self._begun = hashlib.blake2b(digest_size=KEY_BYTES, key=check_key(epoch_key), person=_AS_EPOCH_KEY)
        self._suffix = _FOR.pack(purpose, epoch)
        self.epoch = epoch

    def cipher(self, subject: bytes) -> WrappingKey:
        """The same cipher as `wrapping_key` makes."""
        begun = self._begun.copy()
        begun.update(subject + self._suffix)
        return WrappingKey(begun.digest())

    def __repr__(self) -> str:
        return "Deriver(...)"


def rewrap(
    ciphers: Sequence[tuple[WrappingKey, WrappingKey]],
    contexts: Sequence[tuple[bytes, bytes]],
    blobs: Sequence[bytes],
    place: bytes,
    commitment: bytes,
) -> list[bytes | None]:
    """The wraps of one compartment made anew: (old, new) cipher and `wrap_for` of each. None for one that does not open.

    As `unwrap` asks; the commitment is compared once, and whatever else unwraps must be the very same data key.
    """
    nonce, front = commitment[:NONCE_BYTES], b"W2" + place + commitment
    known: bytes | None = None
    made: list[bytes | None] = []
    for (old, new), (before, after), blob in zip(ciphers, contexts, blobs, strict=True):
        try:
            data_key = old.decrypt(nonce, blob, front + before)
        except InvalidTag:
            made.append(None)
            continue
        if known is None and hmac.compare_digest(keys_of(data_key, place)[1], commitment):
            known = data_key
        same = known is not None and hmac.compare_digest(known, data_key)
        made.append(new.encrypt(nonce, data_key, front + after) if same else None)
    return made


wrap_for: Final = _FOR.pack
"""The end of a wrap's context: purpose and epoch, as they stand before it in the row."""


def _wrap_context(place: bytes, commitment: bytes, purpose: int, epoch: int) -> bytes:
    """'W2' | place 42 | commitment 32 | purpose | epoch: fixed lengths, so nothing can shift."""
    return b"W2" + place + commitment + _FOR.pack(purpose, epoch)
