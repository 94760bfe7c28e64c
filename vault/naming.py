"""Which names a source or a member of staff may have. Pure.

They stand in paths, in logs and in the audit log, so they are plain: no address, no telephone number, nothing to escape.
"""

import re
from typing import Final

from vault.errors import Invalid

MAX_NAME: Final = 63  # one DNS label: fits every path, log and label
_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,62}")
_LONG_NUMBER: Final = re.compile(r"\d{6}")  # looks like a telephone or order number


def check_name(name: str) -> None:
    """Raises Invalid for a name that is not a plain lower-case label."""
    if not _NAME.fullmatch(name) or _LONG_NUMBER.search(name):
        raise Invalid(
            f"A name begins with a-z, holds a-z, 0-9, dot, dash or underscore, at most {MAX_NAME}, "
            "and no six digits in a row.",
            code="unfit_name",
        )
