"""Normal forms for hashing at ad platforms, and masks. Pure.

Not the vault's own normal forms, and never its blind index: these are fixed by the receivers (Google's customer match and
enhanced conversions, Meta's custom audiences). A value that is not surely of its form gives None: withheld. In
particular what already looks like a hash is not an e-mail address, and is never passed through as one.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final, Literal

import phonenumbers

Form = Literal["email", "phone", "name", "text"]

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")
_DOTLESS: Final = frozenset(("gmail.com", "googlemail.com"))  # dots before the @ mean nothing there, says Google
_STARS: Final = "***"  # always three: the length of what is hidden is not told
_SHOWN_DIGITS: Final = 2
_MIN_DIGITS: Final = 7  # E.164 numbers of subscribers are longer; of a shorter one two digits would tell much


def form_of(category: str) -> Form:
    """The form that a Fideslang data category implies: of traits and of identifier kinds alike."""
    if category.startswith("user.contact.email"):
        return "email"
    if category.startswith(("user.contact.phone_number", "user.contact.fax_number")):
        return "phone"
    return "name" if category.startswith("user.name") else "text"


def google_form(value: Any, form: Form) -> str | None:
    """SHA-256, in hex, of the value as Google normalises it: dots of Gmail addresses go, phones keep their `+`."""
    return _hashed(value, _google_email if form == "email" else _e164 if form == "phone" else _lower)


def meta_form(value: Any, form: Form) -> str | None:
    """SHA-256, in hex, of the value as Meta normalises it: phones are digits with country code, without `+`."""
    return _hashed(value, _email if form == "email" else _digits if form == "phone" else _lower)


def mask(value: Any, form: Form) -> str | None:
    """Enough to recognise what one knows already: `a***@e***.com`, `***89`, else `***`."""
    if value is None:
        return None
    if form == "email" and isinstance(value, str) and (address := _email(value)) is not None:
        local, _, domain = address.partition("@")
        return f"{local[0]}{_STARS}@{domain[0]}{_STARS}.{domain.rpartition('.')[2]}"
    if form == "phone" and isinstance(value, str):
        digits = re.sub(r"[^0-9]", "", value)
        return _STARS + digits[-_SHOWN_DIGITS:] if len(digits) >= _MIN_DIGITS else _STARS
    return _STARS


def _hashed(value: Any, normal: Callable[[str], str | None]) -> str | None:
    text = normal(value) if isinstance(value, str) else None
    return hashlib.sha256(text.encode()).hexdigest() if text else None


def _lower(value: str) -> str:
    return value.strip().lower()


def _email(value: str) -> str | None:
    address = value.strip().lower()
    return address if _EMAIL.fullmatch(address) else None


def _google_email(value: str) -> str | None:
    address = _email(value)
    if address is None:
        return None
    local, _, domain = address.partition("@")
    if domain in _DOTLESS:
        local = local.replace(".", "")
    return f"{local}@{domain}" if local else None


def _e164(value: str) -> str | None:
    """`+` and digits, if the value names its country itself; no country is ever guessed."""
    text = value.strip()
    if text.startswith("00"):
        text = f"+{text[2:]}"
    if not text.startswith("+"):
        return None
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _digits(value: str) -> str | None:
    number = _e164(value)
    return None if number is None else number[1:]
