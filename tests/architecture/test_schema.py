"""What the columns are allowed to be: design section 13 and promise 1, read off the schema itself."""

from sqlalchemy import Column, Date, DateTime, Interval, LargeBinary, String, Table, Text, Time, Uuid
from sqlalchemy.types import JSON

from vault.storage.schema import metadata

# Every text column there is, and what stands in it. A new one is a decision: it must never hold what a person gave.
TEXT = {
    "checkpoint.note": "a signed tree head",
    "disclosure_state.reason": "a word of ours",
    "dropped.name": "a name that looks like a name, or (unfit name), or (sensitive name)",
    "dropped.reason": "a code",
    "dropped.type": "a message type; of a property also its event as the policies list it",
    "epoch.name": "the name of a key: purpose-N, rights, tombstone, index-KIND",
    "instance.name": "a name of ours",
    "instance.value": "a random incarnation, a time",
    "lease.name": "a name of ours",
    "policy_version.applied_by": "the name of a member of staff or an operator",
    "request.state": "a word of ours",
    "request.step": "a word of ours",
    "request.type": "a word of ours",
    "source.name": "a label, checked by vault.naming",
    "staff.name": "a label, checked by vault.naming",
    "staff.role": "a role of staff.toml",
    "watched.lines": "message types, names that look like names, codes: what `dropped` holds",
    "webhook.cursor": "opaque, authenticated, holds numbers",
    "webhook.url": "an address that the operator gave",
}
# Found by a key of their own, not through a person (design section 13).
BY_OWN_KEY = {"audit", "audit_in", "audit_node", "change_in", "dedup", "identity", "tombstone"}
# What belongs to the deployment, or to a request, which outlives its person.
NOT_PERSONAL = {
    "archive", "casefile", "certificate", "checkpoint", "destination_token", "dropped", "due", "epoch", "instance",
    "lease", "policy_version", "recipient_notice", "request", "source", "staff", "staff_token", "watch", "watched",
    "webhook",
}  # fmt: skip


def columns() -> list[Column]:
    return [column for table in metadata.sorted_tables for column in table.columns]


def test_text_stands_only_where_no_person_can_be_in_it() -> None:
    found = {f"{column.table.name}.{column.name}" for column in columns() if isinstance(column.type, String | Text)}
    assert found == set(TEXT)


def test_values_are_bytes_numbers_or_random_ids_and_nothing_looser() -> None:
    assert not [str(column) for column in columns() if isinstance(column.type, JSON)]


def test_times_are_microseconds_from_the_application() -> None:
    clocks = (Date, DateTime, Time, Interval)
    assert not [str(column) for column in columns() if isinstance(column.type, clocks)]
    assert not [str(column) for column in columns() if column.server_default is not None and column.identity is None]


def test_what_a_person_has_is_keyed_by_subject_first() -> None:
    for table in metadata.sorted_tables:
        if table.name in BY_OWN_KEY | NOT_PERSONAL:
            continue
        assert first_key(table).name == "subject_id", table.name
        assert isinstance(first_key(table).type, Uuid)


def test_unique_constraints_of_personal_tables_hold_the_subject() -> None:
    """Else the schema could not be distributed by subject (threats section 5)."""
    for table in metadata.sorted_tables:
        if table.name in BY_OWN_KEY | NOT_PERSONAL | {"change"}:
            continue
        for index in table.indexes:
            assert not index.unique or "subject_id" in index.columns, index.name


def test_sealed_columns_are_bytes() -> None:
    sealed = {"state", "wraps", "fields", "ct", "entry", "evidence", "detail", "sealed"}
    for column in columns():
        if column.name in sealed:
            wanted = Text if f"{column.table.name}.{column.name}" in TEXT else LargeBinary
            assert isinstance(column.type, wanted), str(column)


def first_key(table: Table) -> Column:
    return next(iter(table.primary_key.columns))
