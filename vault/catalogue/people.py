"""Staff roles: what each is for and what it may open. Who has a role is in the database; what a role may do is `staff/rules.csv`."""

import msgspec


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One role of the people who log in."""

    name: str
    title: str
    purposes: int = 0  # mask of the purposes for which it may see values
    second_person: frozenset[str] = frozenset()  # rights that need the word of another person as well
