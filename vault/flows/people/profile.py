"""A whole profile in work: the drafts of the subjects known to be one person."""

from uuid import UUID

from vault.flows.people.draft import SubjectDraft


class ProfileDraft:
    """The subjects known to be one person, in work. The root stands first."""

    __slots__ = ("judged", "members", "root")

    def __init__(self, members: list[SubjectDraft]) -> None:
        """`members` in any order; exactly one is the root."""
        self.members = sorted(members, key=lambda one: (not one.state.is_root, one.subject))
        self.root = self.members[0]  # the subject by which the profile is found
        self.judged: object = None  # on what its audiences were judged last; None: unknown

    def member(self, subject: UUID) -> SubjectDraft:
        """The member with this id. Raises KeyError."""
        for one in self.members:
            if one.subject == subject:
                return one
        raise KeyError(subject)

    @property
    def fenced(self) -> bool:
        """True while an erasure runs: closed to every writer."""
        return self.root.state.fenced or any(member.state.fenced for member in self.members[1:])

    def __repr__(self) -> str:
        return f"ProfileDraft(members={len(self.members)})"
