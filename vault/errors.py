"""The few families of errors, each with a stable code.

Holds codes and fixed sentences only: no HTTP status (that table is `api.problems`), no input value, no personal data, no
key. A caller may add `hint`: what a person can do next, made of catalogue names, file names and line numbers alone.
"""

from typing import ClassVar


class VaultError(Exception):
    """Base of every error that the vault raises on purpose. `code` is stable; `hint` says what to do next."""

    code: ClassVar[str] = "error"
    sentence: ClassVar[str] = "The vault could not do this."

    def __init__(self, hint: str = "", *, code: str | None = None) -> None:
        self.hint = hint
        self._code = code
        super().__init__(f"{self.sentence} {hint}".strip())

    @property
    def reason(self) -> str:
        """The most exact code known: the one given at the raise, else that of the class."""
        return self._code or self.code


# --- the caller's fault ---------------------------------------------------------------------------------------------


class Invalid(VaultError):
    """What was sent cannot be understood or accepted."""

    code = "invalid_request"
    sentence = "The request cannot be accepted."


class TooLarge(Invalid):
    """A size limit was passed; the hint names the limit."""

    code = "too_large"
    sentence = "The request is over a size limit."


class Unauthenticated(VaultError):
    """No credential, or one that is unknown, revoked or of the wrong kind. Which of these is not told."""

    code = "unauthenticated"
    sentence = "A valid credential is needed."


class Forbidden(VaultError):
    """The caller is known and may not do this."""

    code = "forbidden"
    sentence = "This credential may not do that."


class NotFound(VaultError):
    """There is no such thing, or the caller may not know that there is (threats G12)."""

    code = "not_found"
    sentence = "There is no such thing here."


class Conflict(VaultError):
    """The thing is in a state in which this cannot be done."""

    code = "conflict"
    sentence = "This cannot be done in the present state."


class Gone(VaultError):
    """A cursor or archive that was valid once and is not any more; start anew."""

    code = "gone"
    sentence = "This is not available any more."


class RateLimited(VaultError):
    """More requests than this credential may make. `Retry-After` says when the next one passes."""

    code = "rate_limited"
    sentence = "This credential makes more requests than it may."

    def __init__(self, hint: str = "", *, code: str | None = None, retry_after: int = 1) -> None:
        super().__init__(hint, code=code)
        self.retry_after = retry_after  # whole seconds, at least 1


# --- the world's fault ----------------------------------------------------------------------------------------------


class Unreadable(VaultError):
    """Stored bytes do not open. One error for every cause, on purpose (threats A19)."""

    code = "integrity"
    sentence = "Stored data could not be opened."


class Forged(Unreadable):
    """A row that decides was written by nobody who holds the vault's keys. `what` names its kind; its key is kept from view."""

    def __init__(self, what: str = "", row: bytes = b"") -> None:
        """`row` tells rows of one kind apart."""
        super().__init__(
            f"A row ({what}) was written by nobody who holds the vault's keys; remove it, and make it anew."
        )
        self.what = what
        self.row = row


class Withheld(VaultError):
    """The gate or the ledger said no. Never carries a value."""

    code = "withheld"
    sentence = "This is withheld."


class Unavailable(VaultError):
    """Something the vault needs (key service, database, journal, audit) does not answer. Nothing was released."""

    code = "unavailable"
    sentence = "The vault cannot answer now."


class Locked(Unavailable):
    """The vault has started and holds no key: its key service does not answer, or refuses. It opens by itself once it does."""

    code = "locked"
    sentence = "The vault is locked: its key service opens no key."


class Overloaded(Unavailable):
    """More work waits than can be done in about a second. Nothing was taken; `Retry-After` says when to come again."""

    code = "overloaded"
    sentence = "The vault has more to do than it can at the moment."


class ConfigError(VaultError):
    """A setting, folder or server is not fit; the vault does not start. The hint says what to change."""

    code = "config"
    sentence = "The vault cannot start with these settings."


class PolicyError(VaultError):
    """The policies folder does not hold together. `problems` are lines of `file:line: what, and the remedy`."""

    code = "policy"
    sentence = "The policies cannot be used."

    def __init__(self, problems: "list[str] | tuple[str, ...]") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
