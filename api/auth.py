"""What the `Authorization` header says, and nothing about whether it is right (that is `vault.flows.admit`).

Promises: malformed headers read as no credential; no secret leaves this module but as a return value.
"""

import base64
from typing import Final

MAX_HEADER: Final = 1000  # characters; a Basic header of ours has under 100


def bearer(header: str | None) -> str | None:
    """The token of `Bearer TOKEN`; None for anything else."""
    scheme, rest = _split(header)
    return rest if scheme == "bearer" and rest else None


def basic_username(header: str | None) -> str | None:
    """The user name of `Basic base64(NAME:PASSWORD)`. A missing colon is tolerated, as old clients send it."""
    scheme, rest = _split(header)
    if scheme != "basic":
        return None
    try:
        text = base64.b64decode(rest, validate=True).decode("ascii")
    except ValueError:  # not base64, or not ASCII
        return None
    return text.partition(":")[0] or None


def bearer_or_basic(header: str | None) -> str | None:
    """The secret of either form, for doors that Segment's clients use."""
    return bearer(header) or basic_username(header)


def _split(header: str | None) -> tuple[str, str]:
    if header is None or len(header) > MAX_HEADER:
        return "", ""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), rest.strip()
