"""What the vault asks of a key service: seal a small secret under a key that stays inside the service.

Two real things stand behind it: the local service, and services in other machines. A service decides by key name who may
unseal: the roles of docs/reference/keys.md are access rules on these names.
"""

from typing import Final, Protocol

FAMILIES: Final = ("index", "webhook", "case", "archive")
"""Fronts of names that come and go while the vault runs; the names of one front share one of the service's own keys."""


def lock_of(key_name: str) -> str:
    """The service's own key that seals a key of this name: the name itself, or its family's."""
    front, dash, _ = key_name.partition("-")
    return front if dash and front in FAMILIES else key_name


class KeyService(Protocol):
    """Seals and unseals secrets of a few hundred bytes, each under the service's own key of that name."""

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
        """True if `seal` would make it in a newer form, or under a newer own key, now."""
        ...

    def renew(self, lock: str) -> None:
        """Make a new own key of the service for that lock: `seal` uses it from now on, and what is older is `outdated`.

        A service whose keys all come from one root has none to renew, and does nothing.
        """
        ...

    def retire(self, lock: str) -> int | None:
        """Destroy the own keys of that lock before the newest. In how many days they are gone: 0 is at once.

        None: the service has no key of its own for a lock, so nothing sealed under it ends with this.
        """
        ...
