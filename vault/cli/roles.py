"""The options that say what a process is for: `--doors`, `--duties`, `--purposes`, as one role."""

from collections.abc import Iterator
from contextlib import contextmanager

import rich_click as click

from vault.errors import ConfigError
from vault.keys.roles import DOORS, DUTIES, DUTIES_OF, EVERYTHING, ProcessRole


@contextmanager
def as_usage() -> Iterator[None]:
    """What options say wrongly is wrong usage, not settings that do not fit: click ends with 2."""
    try:
        yield
    except ConfigError as error:
        raise click.UsageError(error.hint) from None


def role_of(doors: str = "", purposes: str = "", *, duties: str = "") -> ProcessRole | None:
    """The role that the options name; None if they name none. A door brings the loops that need its keys.

    Raises `ConfigError` for a name that is not there, and for doors that must not share a process.
    """
    named, wanted = _listed(doors, "door", DOORS), _listed(duties, "duty", DUTIES)
    if not named and not wanted:
        if purposes:
            raise ConfigError("`--purposes` goes with the door feed or the duty webhooks")
        return None
    wanted += tuple(duty for door in named for duty in DUTIES_OF[door] if duty not in wanted)
    if set(named) == set(DOORS) and not duties and not purposes:
        return EVERYTHING
    role = ProcessRole(named, wanted, _listed(purposes, "purpose", None))
    role.check()
    return role


def parts_of(doors: str, duties: str) -> frozenset[str]:
    """The doors and duties of a process, whatever its purposes. Raises `ConfigError` as `role_of`, and for none named."""
    named, wanted = _listed(doors, "door", DOORS), _listed(duties, "duty", DUTIES)
    if not named and not wanted:
        raise ConfigError(
            "name --doors or --duties; a process that does everything connects as the owner of the database"
        )
    role = ProcessRole(named, (*wanted, *(duty for door in named for duty in DUTIES_OF[door])))
    if role.releases and not role.whole:
        role = ProcessRole(role.doors, role.duties, ("some",))
    role.check()
    return role.parts


def _listed(text: str, what: str, known: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of a list with commas, each once. Only names of ours are repeated in an error."""
    found = tuple(dict.fromkeys(text.replace(",", " ").split()))
    if what == "door" and "console" in found:
        raise ConfigError("the door `console` has no pages yet; doors are " + ", ".join(DOORS))
    if known is not None and not set(found) <= set(known):
        raise ConfigError(f"there is no such {what}; known are {', '.join(known)}")
    return found
