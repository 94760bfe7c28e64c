"""What the vault asks of a key service: seal a small secret under a key that stays inside the service.

Behind it stand a service of this machine (`local`) and three that are elsewhere: `awskms`, `transit`, `pkcs11`. A service
decides by key name who may unseal: the roles of docs/reference/keys.md are access rules on these names. Sealed bytes begin
with their form (docs/formats/keystore.md), so that no service takes another's for its own.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from vault.errors import Unavailable

FAMILIES: Final = ("index", "webhook", "case", "archive")
"""Fronts of names that come and go while the vault runs; the names of one front share one of the service's own keys."""

WAITING: Final = "pending-"
"""Front of the name of a key until it is brought in; what comes after it is the name that it gets then."""

AWAY: Final = "key_service"
"""Code: the service does not answer, or not as it should. It may later."""
MISSING: Final = "key_missing"
"""Code: the service answers that it has no such key; who prepares makes it."""
PENDING: Final = "key_pending"
"""Code: the service would have to be waited for, where nothing may wait. It is asked meanwhile."""
LATER: Final = frozenset((AWAY, PENDING))
"""The key is there, and will be had."""
REFUSED: Final = "key_refused"
"""Code: the service answers that this process may not."""


def lock_of(key_name: str) -> str:
    """The service's own key that seals a key of this name: the name itself, or its family's; of what waits, that of its end."""
    key_name = key_name.removeprefix(WAITING)
    front, dash, _ = key_name.partition("-")
    return front if dash and front in FAMILIES else key_name


def context_of(form: int, key_name: str) -> bytes:
    """What binds sealed bytes to their form and name, beside the key: associated data, never a value."""
    return b"keyservice/%d|" % form + key_name.encode()


def refused() -> Unavailable:
    """The error for a key that the service does not open, or not make, for this process."""
    return Unavailable("the key service does not open this key to this process", code=REFUSED)


def missing(lock: str) -> Unavailable:
    """The error for a lock that the service has no own key for."""
    hint = f"The key service has no key for {lock}; run `profile-vault keys init` once, first."
    return Unavailable(hint, code=MISSING)


def pending() -> Unavailable:
    """The error for a key that is not in memory, on the event loop."""
    return Unavailable("A key that was made just now is being fetched; come again.", code=PENDING)


def away(why: str) -> Unavailable:
    """The error for a service that does not answer. `why`: what a person can act on, as `refuses the connection`."""
    return Unavailable(f"The key service {why}.", code=AWAY)


class KeyService(Protocol):
    """Seals and unseals secrets of a few hundred bytes, each under the service's own key of that name."""

    @property
    def instant(self) -> bool:
        """True if it answers from memory: it may be asked on the event loop."""
        ...

    @property
    def whole(self) -> bool:
        """True if this process may make the service's own keys: it prepares the vault for all others."""
        ...

    @property
    def fault(self) -> str | None:
        """Why it did not answer when it was asked last; None if it did."""
        ...

    def seal(self, key_name: str, plaintext: bytes) -> bytes:
        """`plaintext` sealed under the key `key_name`. Raises `Unavailable` when the service refuses or does not answer."""
        ...

    def unseal(self, key_name: str, sealed: bytes) -> bytes:
        """What was sealed under `key_name`. Raises `Unreadable` if it was not, `Unavailable` if refused or nobody answers."""
        ...

    def opens(self, key_name: str) -> bool:
        """True if this process may unseal what is sealed under that name."""
        ...

    def seals(self, key_name: str) -> bool:
        """True if it may seal under that name; some may who cannot unseal."""
        ...

    def outdated(self, sealed: bytes) -> bool:
        """True if `seal` would make it in a newer form, or under a newer key of the service, now."""
        ...

    def prepare(self, locks: Iterable[str]) -> list[str]:
        """Makes the service's own keys for those locks that have none; answers which. Raises `Unavailable` if refused."""
        ...

    def renew(self, lock: str) -> None:
        """A new own key for that lock: `seal` uses it from now on, and what the older sealed is `outdated`."""
        ...

    def retire(self, lock: str) -> int | None:
        """Destroys the own keys of that lock before its newest. What they sealed is lost with them.

        Answers in how many days they are gone: 0, at once. None: this service has no own key apart from its root.
        """
        ...

    def close(self) -> None:
        """Gives back connections. The next question would open them anew."""
        ...
