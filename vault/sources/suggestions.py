"""What was dropped as unlisted, turned into the lines that would list it: with free numbers, and the least purposes.

A suggestion is a beginning for whoever reviews policies, never applied by itself. It names one purpose unless told others,
and copies type and category from a field of the same name, where there is one. Each stands under a header of its own, so
that it may be pasted at the end of its file. Pure: a catalogue, numbers and names in, text out.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, get_args

from vault.catalogue.fields import GROUP, MAX_PROPERTY, FieldType
from vault.catalogue.load import Catalogue
from vault.catalogue.numbers import MAX_ACCOUNT_TRAIT, MAX_EVENT, MAX_TRAIT, bits
from vault.catalogue.toml import NAME
from vault.sources.dropped import PROPERTY, TRAIT, Drop, parts_of

EVENTS_FILE: Final = "events.toml"
TRAITS_FILE: Final = "traits.toml"
UNLISTED: Final = "unlisted"
_BY_NAME: Final = "track"
_ANY: Final = "*"  # page, screen and group calls are listed for every name at once
_CALLS: Final = frozenset({"track", "page", "screen", "group"})

# What the tracking API reserves, with the meaning that it gives them. Anything else is text about the person until reviewed.
_KNOWN: Final[dict[str, tuple[FieldType, str]]] = {
    "address": ("object", "user.contact.address"),
    "age": ("integer", "user.demographic.age_range"),
    "avatar": ("text", "user.content.self_image"),
    "birthday": ("date", "user.demographic.date_of_birth"),
    "company": ("object", "user.contact.organization"),
    "createdAt": ("time", "user.account"),
    "description": ("text", "user.content"),
    "email": ("text", "user.contact.email"),
    "firstName": ("text", "user.name.first"),
    "gender": ("text", "user.demographic.gender"),
    "language": ("text", "user.demographic.language"),
    "lastName": ("text", "user.name.last"),
    "name": ("text", "user.name"),
    "phone": ("text", "user.contact.phone_number"),
    "title": ("text", "user.job_title"),
    "username": ("text", "user.account.username"),
    "website": ("text", "user.contact.url"),
}
_TRAIT_ELSE: Final[tuple[FieldType, str]] = ("text", "user")
_PROPERTY_ELSE: Final[tuple[FieldType, str]] = ("text", "user.behavior")
# Counters hold no value, so nothing is known of its type; a value of another type than is declared is not stored.
_GUESSED: Final = f"  # a guess: write the type that the app sends, one of {', '.join(get_args(FieldType))}"


class Suggestion(NamedTuple):
    """Lines of TOML for the end of one file."""

    file: str
    lines: tuple[str, ...]  # a header, then its keys

    @property
    def text(self) -> str:
        """As it stands in the file."""
        return "\n".join(self.lines) + "\n"


class Suggester:
    """Gives each thing its lines and its number once, however often it is asked."""

    def __init__(self, catalogue: Catalogue, given: Mapping[str, Iterable[int]], purposes: Iterable[str] = ()) -> None:
        """`given`: `vault.policy.history.given` of every version and of the folder. Raises KeyError for an unknown purpose."""
        self._catalogue = catalogue
        self._taken = {scope: set(numbers) for scope, numbers in given.items()}
        self._wanted = catalogue.mask(purposes)
        self._made: dict[tuple[str, str], Suggestion | None] = {}

    def suggest(self, drop: Drop) -> Suggestion | None:
        """The lines that would keep it; None where no line could, or where it is listed by now."""
        if drop.reason != UNLISTED:
            return None
        kind, event = parts_of(drop.type)
        name = drop.name if kind in {_BY_NAME, PROPERTY, TRAIT} else _ANY
        key = (drop.type, name)
        if key not in self._made:
            self._made[key] = self._make(kind, event, name)
        return self._made[key]

    def listed(self, drop: Drop) -> bool:
        """Is it listed by now, so that it would be kept today?"""
        kind, event = parts_of(drop.type)
        if kind == TRAIT:
            return drop.name in self._catalogue.traits
        if kind == PROPERTY:
            found = self._catalogue.events.get(_parts(event)) if event is not None else None
            return found is not None and drop.name in found.properties
        return kind in _CALLS and self._catalogue.event(kind, drop.name) is not None

    def _make(self, kind: str, event: str | None, name: str) -> Suggestion | None:
        if name.startswith("("):  # not known, or not shown
            return None
        if kind in _CALLS:
            return self._event(kind, name)
        if NAME.fullmatch(name) is None:
            return None
        if kind == TRAIT:
            return self._trait(name)
        return self._property(event, name) if event is not None else None

    def _event(self, kind: str, name: str) -> Suggestion | None:
        if self._catalogue.event(kind, name) is not None:
            return None
        number = self._free("event", MAX_EVENT)
        purposes = f"purposes = {self._purposes(self._catalogue.all_purposes)}"
        return None if number is None else Suggestion(EVENTS_FILE, (f'[{kind}."{name}"]', number, purposes))

    def _trait(self, name: str) -> Suggestion | None:
        catalogue = self._catalogue
        if name in catalogue.traits or name in catalogue.computed:  # a computed trait is nothing that an app may send
            return None
        kind, category = _KNOWN.get(name, _TRAIT_ELSE)
        number = self._free("trait", MAX_TRAIT)
        typed = f'type = "{kind}"' + ("" if name in _KNOWN else _GUESSED)
        keys = (typed, f'category = "{category}"', f"purposes = {self._purposes(catalogue.all_purposes)}")
        return None if number is None else Suggestion(TRAITS_FILE, (f"[{name}]", number, *keys))

    def _property(self, event: str, name: str) -> Suggestion | None:
        kind, title = _parts(event)
        listed = self._catalogue.events.get((kind, title))
        if listed is None or name in listed.properties:
            return None
        if kind == GROUP:  # account traits of all group calls are numbered together
            number = self._free("account trait", MAX_ACCOUNT_TRAIT)
        else:
            number = self._free(f"property of {event}", MAX_PROPERTY)
        found = self._like(name)
        kind_of, category = found or _PROPERTY_ELSE
        typed = f'type = "{kind_of}"' + ("" if found else _GUESSED)
        keys = (typed, f'category = "{category}"', f"purposes = {self._purposes(listed.purposes)}")
        return (
            None
            if number is None
            else Suggestion(EVENTS_FILE, (f'[{kind}."{title}".properties.{name}]', number, *keys))
        )

    def _like(self, name: str) -> tuple[FieldType, str] | None:
        """Type and category of a property of this name in another event, if there is one."""
        for event in self._catalogue.events.values():
            if name in event.properties:
                return event.properties[name].type, event.properties[name].category
        return None

    def _purposes(self, within: int) -> str:
        """As TOML writes them: those that were asked for; else one, on consent if there is one: widening is for the reviewer."""
        chosen = self._wanted & within
        if not chosen:
            first = next(bits(within & self._catalogue.consent_mask or within))
            chosen = 1 << first
        return "[" + ", ".join(f'"{name}"' for name in self._catalogue.names(chosen)) + "]"

    def _free(self, scope: str, highest: int) -> str | None:
        """The line of the number after the highest ever given; of the lowest that never was, at the end of the range."""
        taken = self._taken.setdefault(scope, set())
        number = max(taken, default=0) + 1
        if number > highest:
            number = next((n for n in range(1, highest + 1) if n not in taken), 0)
        if not number:
            return None
        taken.add(number)
        return f"number = {number}"


def _parts(event: str) -> tuple[str, str]:
    """Type and name of an event that is written `TYPE:NAME`."""
    kind, _, name = event.partition(":")
    return kind, name
