"""The whole schema, with every page of it loaded. `migrations/` creates exactly this; a test compares the two."""

from vault.storage import integrity, parties, requests, tables
from vault.storage.column import metadata

PAGES = (tables, parties, requests, integrity)

__all__ = ["PAGES", "metadata"]
