"""What a check of the doctor answers: one line, and what to do. Holds paths, versions and figures; no key, no value."""

from typing import Final, Literal, NamedTuple

State = Literal["ok", "warning", "failed", "skipped"]
STATES: Final = ("ok", "warning", "failed", "skipped")


class Finding(NamedTuple):
    """One check. `remedy` is empty only where nothing is to be done."""

    check: str
    state: State
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """As it should be."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """It works, and somebody should know."""
    return Finding(check, "warning", found, remedy)


def failed(check: str, found: str, remedy: str) -> Finding:
    """It does not work, or not safely."""
    return Finding(check, "failed", found, remedy)


def skipped(check: str, found: str, remedy: str = "") -> Finding:
    """It could not be looked at."""
    return Finding(check, "skipped", found, remedy)
