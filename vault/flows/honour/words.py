"""What the vault does with data, in plain words: the logic of computed traits and audiences, periods, and a person's rights."""

import datetime as dt
from typing import Final

from vault.catalogue.audiences import All, Any, Audience, Condition, None_, Test
from vault.catalogue.computed import Computed
from vault.catalogue.load import Catalogue
from vault.catalogue.purposes import Purpose
from vault.clock import DAY

RIGHTS: Final = {
    "rectification": "You may have wrong data corrected and incomplete data completed (GDPR Art. 16).",
    "erasure": "You may have your data erased (Art. 17). What law obliges us to keep is then kept apart, for that alone.",
    "restriction": "You may have the use of your data restricted while a question about it is open (Art. 18).",
    "portability": "You may get the data you provided in a machine-readable form, or have it sent on (Art. 20).",
    "objection": "You may object to uses that rest on legitimate interests, and to direct marketing at any time (Art. 21).",
    "withdrawal": "You may withdraw a consent at any time, as easily as you gave it (Art. 7(3)).",
}
CONTROLLER: Final = "The company that runs this vault and gave you this answer is the controller of your data."
INCOMPLETE: Final = (
    "This answer is not complete: {} of the parts of your events that were stored are no longer there, and the vault did"
    " not delete them. Ask the company what became of them."
)
COMPLAINT: Final = (
    "You may complain to a data protection authority, in particular where you live, where you work, or where you think "
    "that the law was broken (Art. 77)."
)
AUTOMATED: Final = (
    "The computed traits and audiences listed here are worked out automatically from your events as described beside "
    "them. The vault itself takes no decision with legal or similarly significant effects (Art. 22) from them."
)

_OPERATORS: Final = {
    "equals": "is",
    "not_equals": "is not",
    "one_of": "is one of",
    "less": "is less than",
    "at_most": "is at most",
    "greater": "is greater than",
    "at_least": "is at least",
    "contains": "contains",
    "starts_with": "starts with",
    "exists": "is known",
    "before": "is before",
    "after": "is after",
}


def logic_of(catalogue: Catalogue, computed: Computed) -> str:
    """How a computed trait comes about."""
    event = catalogue.events_by_number[computed.event].name
    what = f"`{computed.property}` of your “{event}” events" if computed.property else f"your “{event}” events"
    if computed.kind == "count":
        return f"The number of {what}."
    if computed.kind == "sum":
        currency = f", counting those in {computed.currency}" if computed.currency else ""
        return f"The sum of {what}{currency}."
    word = "first" if computed.kind == "first" else "latest"
    if computed.property is None:
        return f"The time of the {word} of {what}."
    return f"The {word} {what}."


def logic_of_audience(catalogue: Catalogue, audience: Audience) -> str:
    """Whom an audience holds, and what for."""
    purpose = catalogue.purpose_by_number[audience.purpose]
    return f"Holds people of whom this is known: {condition_in_words(audience.condition)}. Used for: {purpose.title}."


def condition_in_words(condition: Condition) -> str:
    """A condition as a sentence without its full stop."""
    if isinstance(condition, Test):
        value = condition.value
        shown = ", ".join(str(one) for one in value) if isinstance(value, tuple) else str(value)
        word = _OPERATORS[condition.op]
        if condition.op == "exists":
            return f"`{condition.trait}` {word if value else 'is not known'}"
        return f"`{condition.trait}` {word} {shown}"
    parts = [condition_in_words(one) for one in condition.conditions]
    if isinstance(condition, All):
        return _joined(parts, "and")
    if isinstance(condition, Any):
        return _joined(parts, "or")
    if isinstance(condition, None_):
        return f"none of: {_joined(parts, 'or')}"
    raise TypeError("not a condition")


def retention_of(purpose: Purpose) -> str:
    """How long a value may be used for the purpose."""
    if purpose.retention is None:
        return "for as long as its legal basis holds"
    start = "the end of the year in which it was collected" if purpose.starts == "year_end" else "its collection"
    return f"{period(purpose.retention)} from {start}"


def period(micros: int) -> str:
    """A length of time in years where it is whole ones, else in days."""
    length = dt.timedelta(microseconds=micros)
    years, rest = divmod(length.days, 365)
    # Ten years are 3,652 days or so: a rest below one day a year is what leap years leave.
    if years and rest <= years:
        return f"{years} year{'s' if years > 1 else ''}"
    days = micros // DAY
    return f"{days} day{'s' if days != 1 else ''}"


def _joined(parts: list[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else "(" + f" {word} ".join(parts) + ")"
