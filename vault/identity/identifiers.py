"""Identifiers in one normal form: what is the same identifier, and what identifies nobody. Pure.

The rules are strict, because a form that joins two spellings joins two people (threats B9). Nothing is folded that a
person could have meant: letters keep their case, and no Unicode normalisation is applied, so `ﬁona` and `fiona`, or a Latin
and a Cyrillic `a`, are different identifiers. Text that hides or reorders itself is no identifier at all.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final

from vault.catalogue.identifiers import IdentifierKind, NormalForm

MAX_LENGTH: Final = 512  # bytes; the tracking API's longest id has 500 characters
MAX_EMAIL: Final = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
MAX_LOCAL: Final = 64  # RFC 5321 section 4.5.3.1.1

_SPACE: Final = " \t\r\n\f\v"  # ASCII only: other spaces are refused, not trimmed
_ATOM: Final = r"[^\s@\"(),:;<>\[\]\\.]"  # no quoted local parts and no address literals: no person has one
_EMAIL: Final = re.compile(rf"({_ATOM}+(?:\.{_ATOM}+)*)@((?:{_ATOM}+\.)+{_ATOM}{{2,}})")
_PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)  # E.164: country code first, at most 15 digits
_PHONE_MARKS: Final = str.maketrans("", "", " -.()")  # how people group digits; says nothing about the number
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)

# Cc control, Cf format (bidirectional marks, zero width), Cs surrogate, Co private, Cn unassigned, Z* spaces.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
# What stands for bytes or halves of characters that could not be read: two values that hold it need not be the same.
_REPLACED: Final = "\N{REPLACEMENT CHARACTER}"
# Default_Ignorable_Code_Point of Unicode that are letters or marks by category (DerivedCoreProperties.txt).
_IGNORABLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


def normalise(kind: IdentifierKind, value: str) -> bytes | None:
    """The normal form of a value of this kind, in UTF-8; None for one that is malformed or identifies nobody.

    Normalising a normal form gives it back.
    """
    text = value.strip(_SPACE)
    if len(text) > MAX_LENGTH or not _plain(text) or kind.blocks(text):
        return None
    form = _FORMS[kind.normal_form](text)
    if form is None or (form != text and kind.blocks(form)):
        return None
    encoded = form.encode()
    return encoded if len(encoded) <= MAX_LENGTH else None


def _plain(text: str) -> bool:
    """True if every character shows, keeps its place, and exists."""
    if text.isascii():
        return text.isprintable()
    if _REPLACED in text:
        return False
    return _IGNORABLE.search(text) is None and all(
        character == " " or unicodedata.category(character) not in _HIDDEN for character in text
    )


def _exact(text: str) -> str:
    return text


def _email(text: str) -> str | None:
    """The local part as it is, since only its host may say that two spellings are one; the domain in lower ASCII letters."""
    found = _EMAIL.fullmatch(text)
    if found is None:
        return None
    local, domain = found.groups()
    if len(local.encode()) > MAX_LOCAL or len(text.encode()) > MAX_EMAIL:
        return None
    return f"{local}@{_lower_ascii(domain)}"


def _lower_ascii(text: str) -> str:
    """Only A to Z: `str.lower` would change the length of U+0130."""
    return "".join(character.lower() if character.isascii() else character for character in text)


def _phone(text: str) -> str | None:
    """E.164 with its plus sign. A number without a country code is nobody's: which country is a guess."""
    digits = text.translate(_PHONE_MARKS)
    return digits if _PHONE.fullmatch(digits) else None


def _uuid(text: str) -> str | None:
    return text.lower() if _UUID.fullmatch(text) else None


_FORMS: Final[Mapping[NormalForm, Callable[[str], str | None]]] = {
    "exact": _exact,
    "email": _email,
    "phone": _phone,
    "uuid": _uuid,
}
