"""Which member of a body of ours does not fit, in words: a name that the call declares, never one that was sent, nor a value.

Reads msgspec's sentence about it, which repeats no value; what it says otherwise is passed on as None.
"""

import re
from typing import Final

import msgspec

_MISSING: Final = re.compile(r"Object missing required field `(\w+)`(?: - at `\$\.?([\w.\[\]]*)`)?")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `.*?`(?: - at `\$\.?([\w.\[\]]*)`)?", re.DOTALL)
_TYPE: Final = re.compile(
    r"Expected `([\w |]+)`(?: of length [<>=]+ \d+)?, got `[\w |]+`(?: - at `\$\.?([\w.\[\]]*)`)?"
)
_OTHER: Final = re.compile(r".* - at `\$\.?([\w.\[\]]+)`", re.DOTALL)
_WORDS: Final = {"str": "text", "int": "a whole number", "array": "a list", "bool": "true or false", "null": "null"}


def misfit(error: Exception, kind: type[msgspec.Struct]) -> str | None:
    """One sentence about the member that does not fit; None where none can be named safely."""
    text, known = str(error), _names(kind)
    if found := _MISSING.fullmatch(text):
        return _about(_joined(found[2], found[1]), "is missing", known)
    if found := _UNKNOWN.fullmatch(text):
        where = _about(found[1], "has a member that this call does not know", known) if found[1] else None
        members = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
        return where or f"The body has a member that this call does not know; it knows {members}."
    if found := _TYPE.fullmatch(text):
        wanted = " or ".join(_WORDS.get(one.strip(), "an object") for one in found[1].split("|"))
        return _about(found[2], f"must be {wanted}", known) if found[2] else f"The body must be {wanted}."
    if found := _OTHER.fullmatch(text):
        return _about(found[1], "is not as this call has it", known)
    return None


def _about(path: str | None, what: str, known: frozenset[str]) -> str | None:
    """None if some part of the path is no name of ours."""
    if path is None or not {part for part in re.split(r"[.\[\]]+", path) if part and not part.isdigit()} <= known:
        return None
    return f"`{path}` {what}; /schema lists the members of this call."


def _joined(path: str | None, member: str) -> str:
    return f"{path}.{member}" if path else member


def _names(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Every member name in the schema of this struct."""
    schema, parts = msgspec.json.schema_components([kind])
    return frozenset(name for one in (*schema, *parts.values()) for name in one.get("properties", {}))
