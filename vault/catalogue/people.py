"""Staff roles. Who has a role is in the database; what a role may do is in `staff/rules.csv`, read by `vault.policy.staff`."""

from collections.abc import Mapping

import msgspec

from vault.catalogue.purposes import Purpose, purpose_mask
from vault.catalogue.toml import TomlFile


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One role of the people who log in."""

    name: str
    title: str
    purposes: int = 0  # mask of the purposes for which it may see values
    second_person: frozenset[str] = frozenset()  # rights that need the word of another person as well


def read_roles(file: TomlFile, purposes: Mapping[str, Purpose]) -> dict[str, Role]:
    """The roles of `staff.toml`. That the rights of `second_person` exist is checked by `vault.policy.staff`."""
    roles: dict[str, Role] = {}
    for section in file.tables():
        section.check_name()
        roles[section.name] = Role(
            name=section.name,
            title=section.text("title"),
            purposes=purpose_mask(section, "purposes", purposes, required=False),
            second_person=frozenset(section.texts("second_person")),
        )
        section.done()
    return roles
