"""The form in which a recipient gets a value. Pure: raw JSON in, raw JSON out, or None: withheld.

A transform that does not fit a value withholds it; it never falls back to a form that shows more. Names are those of
destinations.toml; the numbers are stored in disclosure records and mean the same for ever.
"""

import datetime as dt
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgspec

from vault.destinations.normal import Form, google_form, mask, meta_form
from vault.errors import Invalid

Apply = Callable[[bytes], bytes | None]
Pseudonymise = Callable[[bytes], str]

_exact: Final = msgspec.json.Decoder(float_hook=Decimal)
_MAX_DIGITS: Final = 60  # before the point; a longer "number" is a way to keep the vault busy, not a measure
_EXACT: Final = Context(prec=400)


class Kind(IntEnum):
    """The transforms, by stored number."""

    REVEAL = 1
    MASK = 2
    SHA256_GOOGLE = 3
    SHA256_META = 4
    PSEUDONYM = 5
    YEAR = 6
    PREFIX = 7
    ROUND = 8


class Transform(NamedTuple):
    """One transform; `size` counts characters for `prefix`, is the step for `round`, and 0 for the others."""

    kind: Kind
    size: int

    @property
    def number(self) -> int:
        """The stored number: kind in the high byte, size in the low one."""
        return self.kind << 8 | self.size

    @property
    def name(self) -> str:
        """The name as destinations.toml writes it."""
        plain = _NAMES[self.kind]
        return f"{plain}:{self.size}" if self.kind in _SIZED else plain


_NAMES: Final = {
    Kind.REVEAL: "reveal",
    Kind.MASK: "mask",
    Kind.SHA256_GOOGLE: "sha256:google",
    Kind.SHA256_META: "sha256:meta",
    Kind.PSEUDONYM: "pseudonym",
    Kind.YEAR: "year",
    Kind.PREFIX: "prefix",
    Kind.ROUND: "round",
}
_SIZED: Final = frozenset((Kind.PREFIX, Kind.ROUND))
_BY_NAME: Final = {name: kind for kind, name in _NAMES.items()} | {"sha256": Kind.SHA256_GOOGLE}
MAX_SIZE: Final = 255  # one byte of the stored number


def named(name: str) -> Transform:
    """The transform of a name as in destinations.toml. Raises `Invalid` for another word."""
    kind = _BY_NAME.get(name)
    if kind is not None and kind not in _SIZED:
        return Transform(kind, 0)
    plain, _, size = name.partition(":")
    kind = _BY_NAME.get(plain)
    if kind not in _SIZED or not (size.isascii() and size.isdigit()) or not 0 < int(size) <= MAX_SIZE:
        raise Invalid("A transform is reveal, mask, sha256:google, sha256:meta, pseudonym, year, prefix:N or round:N.")
    return Transform(Kind(kind), int(size))


def numbered(number: int) -> Transform:
    """The transform of a stored number. Raises ValueError for a number that was never given."""
    transform = Transform(Kind(number >> 8), number & 0xFF)
    if (transform.size != 0) != (transform.kind in _SIZED):
        raise ValueError("not a transform number")
    return transform


def compile_transform(transform: Transform, form: Form, pseudonymise: Pseudonymise | None = None) -> Apply:
    """The function that brings raw JSON values of this form into the recipient's form; made once, applied often.

    `pseudonymise` gives the stand-in of a value at the destination; without one, `pseudonym` withholds.
    """
    kind, size = transform
    if kind is Kind.REVEAL:
        return _reveal
    if kind is Kind.PSEUDONYM:
        return lambda raw: None if pseudonymise is None or raw == _NULL else msgspec.json.encode(pseudonymise(raw))
    change = _changes(kind, size, form)

    def apply(raw: bytes) -> bytes | None:
        try:
            changed = change(_exact.decode(raw))
        except (msgspec.MsgspecError, ValueError, InvalidOperation):
            return None
        return None if changed is None else msgspec.json.encode(changed)

    return apply


_NULL: Final = b"null"


def _reveal(raw: bytes) -> bytes | None:
    return None if raw == _NULL else raw


def _changes(kind: Kind, size: int, form: Form) -> Callable[[Any], Any]:
    if kind is Kind.MASK:
        return lambda value: mask(value, form)
    if kind is Kind.SHA256_GOOGLE:
        return lambda value: google_form(value, form)
    if kind is Kind.SHA256_META:
        return lambda value: meta_form(value, form)
    if kind is Kind.YEAR:
        return _year
    if kind is Kind.PREFIX:
        return lambda value: _prefix(value, size)
    return lambda value: _round(value, size)


def _year(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    text = value.strip()
    return (dt.date.fromisoformat(text) if len(text) <= len("2026-11-23") else dt.datetime.fromisoformat(text)).year


def _prefix(value: Any, count: int) -> str | None:
    """The first `count` characters; a value that is not longer would be shown whole, so it is withheld."""
    return value[:count] if isinstance(value, str) and len(value) > count else None


def _round(value: Any, step: int) -> int | None:
    """To the nearest multiple of `step`; a tie goes to the even multiple."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    if number.adjusted() >= _MAX_DIGITS:
        return None
    steps = _EXACT.divide(number, Decimal(step)).to_integral_value(ROUND_HALF_EVEN, _EXACT)
    return int(steps) * step
