"""The SQL by which a superuser makes the roles of PostgreSQL that `privileges` names, and logins that belong to them.

Promises: running it twice changes nothing but passwords; a login belongs to the groups that are named, and to no other of
ours. Prints no password: of one, only what the server keeps (`vault.crypto.scram`).
"""

import re
from collections.abc import Iterable
from typing import Final

from vault.errors import ConfigError
from vault.storage.privileges import PARTS, PREFIX, group_of

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MADE: Final = """
DO $$ BEGIN
  CREATE ROLE {name} {options};
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
"""
# Functions that everybody may call by default, and that write without a table: no part needs them, and no grant of ours holds them.
_OPEN: Final = (
    "lo_creat", "lo_create", "lo_from_bytea", "lo_put", "lo_open", "lowrite", "lo_truncate", "lo_truncate64", "lo_import",
    "pg_logical_emit_message",
)  # fmt: skip
_NONE: Final = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"


def groups() -> str:
    """The group of every part: no login, no right yet. `migrate` and `keys init` give them theirs."""
    return "".join(_MADE.format(name=group_of(part), options=f"NOLOGIN {_NONE}") for part in PARTS).lstrip()


def closed() -> str:
    """Takes from everybody what fills the disk or the write-ahead log past every grant, in the database that this is run in.

    They belong to the superuser, so that the owner of a database cannot.
    """
    return f"""DO $$ DECLARE one regprocedure; BEGIN
  FOR one IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
    AND proname IN {_OPEN} LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', one);
  END LOOP; END $$;
"""  # noqa: S608 (constants of this module)


def login(name: str, parts: Iterable[str], verifier: str | None = None) -> str:
    """A role by which a process of these parts connects. Raises `ConfigError` for a name that is not plain."""
    if not _NAME.fullmatch(name) or name.startswith((PREFIX, "pg_")):
        raise ConfigError(
            "name a login by small letters, digits and `_`, a letter first; not as the vault names its groups"
        )
    mine = set(parts)
    lines = [_MADE.format(name=name, options=f"LOGIN INHERIT {_NONE}").lstrip()]
    if verifier is not None:
        lines.append(f"ALTER ROLE {name} PASSWORD '{verifier}';\n")
    lines += [f"GRANT {group_of(part)} TO {name};\n" for part in PARTS if part in mine]
    lines += [f"REVOKE {group_of(part)} FROM {name};\n" for part in PARTS if part not in mine]
    return "".join(lines)
