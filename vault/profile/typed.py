"""Does a raw JSON value have the type that the catalogue declares? Told by its first letter, without parsing it."""

from typing import Final

from vault.catalogue.fields import FieldType

_STARTS: Final[dict[FieldType, bytes]] = {
    "text": b'"',
    "date": b'"',
    "time": b'"',
    "number": b"-0123456789",
    "integer": b"-0123456789",
    "boolean": b"tf",
    "list": b"[",
    "object": b"{",
}


def fits(kind: FieldType, raw: bytes) -> bool:
    """True if raw JSON is of this type by its first letter, or null. Integers have no fraction."""
    if raw[:1] in _STARTS[kind] and raw and kind != "integer":  # mostly
        return True
    text = raw.strip()
    if text == b"null":
        return True
    return bool(text) and text[:1] in _STARTS[kind] and (kind != "integer" or text.lstrip(b"-").isdigit())
