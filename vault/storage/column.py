"""What the tables of all pages share: the one `metadata`, and how a column of a primary key is written.

The schema is on three pages: `tables` (people, and what is found by a key of its own), `parties` (who may speak to the
vault) and `requests` (what people ask for); `schema` has all of it.

Rules that every table keeps (design section 13):
- What a person has is keyed by `subject_id` first. The exceptions (identity, dedup, tombstone, audit, change_in) are
  keyed by a tag or number of their own.
- Times are `bigint` microseconds since 1970 UTC, given by the application; ids come from the application.
- Personal values appear in `bytea` columns only, sealed. Text columns hold names from policies, codes and labels that
  operators choose for sources and staff.
- No index on a column that ordinary ingest changes: every such update stays HOT.
"""

from sqlalchemy import Column, MetaData

metadata = MetaData()


def key(name: str, kind: object, **options: object) -> Column:  # type: ignore[type-arg]
    """A column of the primary key."""
    return Column(name, kind, primary_key=True, **options)  # type: ignore[arg-type]
