"""One message of the tracking API, as the vault works with it. Values stay the raw JSON bytes that were sent.

Raw, because numbers must keep their exact decimals and strings their exact text until they are sealed; and because what
is not stored need not be parsed. Times are microseconds since 1970 UTC.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from vault.clock import Micros

MessageType = Literal["identify", "track", "page", "screen", "group", "alias"]
CONSENT_EVENT: Final = "Segment Consent Preference Updated"  # standards section 1.5; read before the catalogue
UNFIT: Final = "(unfit name)"
SENSITIVE: Final = "(sensitive name)"  # of what the policies mark as special: in clear nowhere at rest (promise 1)

# design section 4: a letter first, at most 80 letters, digits, space, `_.:-`, no six digits in a row. ASCII (threats B10)
_FIT: Final = re.compile(r"(?!.*[0-9]{6})[A-Za-z][A-Za-z0-9 _.:-]{0,79}")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What one message said, and when. Shows no value of itself."""

    index: int  # its place in the batch
    type: MessageType
    message_id: str
    user_id: str | None = None
    anonymous_id: str | None = None
    previous_id: str | None = None
    group_id: str | None = None
    name: str | None = None  # of a track, page or screen
    properties: Mapping[str, bytes] = {}
    traits: Mapping[str, bytes] = {}
    context_traits: Mapping[str, bytes] = {}
    external_ids: tuple[tuple[str, str], ...] = ()  # (type, id) of context.externalIds
    stamp: Mapping[str, bool] | None = None  # context.consent.categoryPreferences; None: it carries none
    said_at: Micros  # corrected for the sender's clock; never later than receipt
    received_at: Micros
    digested: bytes  # the message as sent, for comparing two that claim the same id

    def __repr__(self) -> str:
        return f"Message({self.index}, {self.type})"

    @property
    def is_consent_change(self) -> bool:
        """True for the change event: an act, which leaves choices and no event."""
        return self.type == "track" and self.name == CONSENT_EVENT


def fit_name(name: str | None) -> str:
    """A name that may be counted and shown; anything else could be a value in the wrong place, and counts as unfit."""
    return name if name is not None and _FIT.fullmatch(name) else UNFIT
