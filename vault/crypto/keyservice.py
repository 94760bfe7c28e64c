"""What the vault asks of a key service: seal a small secret under a key that stays inside the service.

Two real things stand behind it: the local service, and services in other machines. A service decides by key name who may
unseal: the roles of docs/reference/keys.md are access rules on these names.
"""

from typing import Protocol


class KeyService(Protocol):
    """Seals and unseals secrets of a few hundred bytes, each under the service's own key of that name."""

    def seal(self, key_name: str, plaintext: bytes) -> bytes:
        """`plaintext` sealed under the key `key_name`. Raises `Unavailable` when the service does not answer."""
        ...

    def unseal(self, key_name: str, sealed: bytes) -> bytes:
        """What was sealed under `key_name`. Raises `Unreadable` if it was not, `Unavailable` if nobody answers."""
        ...
