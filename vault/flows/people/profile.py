"""A whole profile in work: the drafts of the subjects known to be one person."""

from uuid import UUID

from vault.flows.people.draft import SubjectDraft


class ProfileDraft:
    """The subjects known to be one person, in work. The root stands first."""

    def __init__(self, members: list[SubjectDraft]) -> None:
        """`members` in any order; exactly one is the root."""
        self.members = sorted(members, key=lambda one: (not one.state.is_root, one.subject))

    @property
    def root(self) -> SubjectDraft:
        """The subject by which the profile is found."""
        return self.members[0]

    def member(self, subject: UUID) -> SubjectDraft:
        """The member with this id. Raises KeyError."""
        for one in self.members:
            if one.subject == subject:
                return one
        raise KeyError(subject)

    @property
    def fenced(self) -> bool:
        """True while an erasure runs: closed to every writer."""
        return any(member.state.fenced for member in self.members)

    def __repr__(self) -> str:
        return f"ProfileDraft(members={len(self.members)})"
