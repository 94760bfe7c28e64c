"""The example shop's catalogue, as shipped, and its purposes by name."""

from pathlib import Path
from typing import Final

from vault.catalogue.load import load, read_folder

POLICIES: Final = Path(__file__).resolve().parents[1] / "policies"
SHOP: Final = load(read_folder(POLICIES))

SERVICE, ACCOUNTING, FRAUD, ANALYTICS, PERSONAL, MARKETING, ADVERTISING = (
    SHOP.purposes[name].number
    for name in (
        "service",
        "accounting",
        "fraud_prevention",
        "analytics",
        "personalisation",
        "marketing",
        "advertising",
    )
)


def mask(*purposes: int) -> int:
    """The mask of some purpose numbers."""
    return sum({1 << purpose for purpose in purposes})
