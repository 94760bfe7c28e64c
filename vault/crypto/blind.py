"""Keyed 128-bit tags: the same thing gives the same tag, and without the key a tag tells and finds nothing.

BLAKE2b with key and personal label (RFC 7693; ADR 0020). Parts are framed, so (a, bc) and (ab, c) differ; a label keeps
one use of a key from another; the key is one per kind (threats A17). Docs: docs/formats/tags.md.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, NoReturn

from vault.canonical import framed, framed_one
from vault.crypto.mac import check_key, person

TAG_BYTES: Final = 16  # 2**64 tags before two are likely to meet; a table of people has far fewer


class Tagger:
    """One key, label and front made ready, for who makes many tags in one journey. Shows nothing of itself, and stays here."""

    __slots__ = ("_later", "_ready")

    def __init__(self, key: bytes, label: str, *front: bytes, later: Sequence[bytes] = ()) -> None:
        """The key, the label and the first parts that `tag` would be given; `later` keys make the tag anew, one after the other."""
        self._later = [_retagging(one) for one in later]
        self._ready = hashlib.blake2b(framed(*front), digest_size=TAG_BYTES, key=check_key(key), person=person(label))

    def tag(self, part: bytes) -> bytes:
        """As `tag`, of the front and one more part."""
        made = self._ready.copy()
        made.update(framed_one(part))
        found = made.digest()
        for one in self._later:
            again = one.copy()
            again.update(found)
            found = again.digest()
        return found

    def __repr__(self) -> str:
        return "Tagger(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key does not leave its process")


def _retagging(key: bytes) -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=TAG_BYTES, key=check_key(key), person=person("retag/1"))


def retag(key: bytes, before: bytes) -> bytes:
    """A tag made anew under a later key, without the value behind it (ADR 0108)."""
    made = _retagging(key)
    made.update(before)
    return made.digest()


def tag(key: bytes, label: str, *parts: bytes) -> bytes:
    """16 bytes for `label` and `parts`. `label` is at most 16 printable ASCII letters."""
    return hashlib.blake2b(framed(*parts), digest_size=TAG_BYTES, key=check_key(key), person=person(label)).digest()
