"""The part of the database's connections that is kept for people's rights: doors say who may use it, storage keeps it."""

from vault.storage.session import reserved

__all__ = ["reserved"]
