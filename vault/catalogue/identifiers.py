"""Identifier kinds: what may find a person, and what may join two subjects. Holds rules, never a value of a person."""

import re
from typing import Final, Literal

import msgspec

NormalForm = Literal["exact", "email", "phone", "uuid"]

# Filler that devices send for "no id", in any length: Segment blocks the same (standards section 2.2).
_FILLER: Final = re.compile(r"[0-]*", re.ASCII)


class IdentifierKind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of identifier. Its values are sealed in the compartment of `purposes`; its tag exists while any of them holds."""

    number: int
    name: str
    category: str  # Fideslang data category
    purposes: int
    normal_form: NormalForm = "exact"
    limit: int  # values per profile within the window
    window: Literal["ever"] = "ever"
    priority: int  # 1 is the strongest; the weakest is dropped first
    blocked: frozenset[str] = frozenset()  # values that never identify, in lower case
    verifiable: bool = False  # the person can prove it: a link sent there
    device_access: bool = False  # read from the person's device (ePrivacy Art. 5(3))
    opaque: bool = False  # tells nothing about the person, so it may stand in a path
    joins: bool = True  # False: finds a person, never joins two
    take_from: tuple[str, ...]  # places in a message, first match wins: `userId`, `traits.email`, `properties.order_id`

    def blocks(self, value: str) -> bool:
        """True if the value never identifies: empty, only zeros and dashes, or one of the blocked ones in any case."""
        text = value.strip()
        return _FILLER.fullmatch(text) is not None or text.lower() in self.blocked
