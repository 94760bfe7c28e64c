"""Brings the database's grants to what `privileges` says, and tells what a connection may do beyond that, or lacks.

Promises: doing it twice changes nothing, and nothing is touched that is as it should be; a right that the page does not
name is taken away. Roles are not made here: that is a superuser's work (`profile-vault database roles`). Knows no value.
"""

from collections.abc import Iterable
from typing import Final

from vault.storage.privileges import KINDS, MAINTAIN, MAINTAINED, PARTS, PREFIX, TABLES, Privilege, group_of, wanted
from vault.storage.session import Raw, Standing

MAX_NAMED: Final = 3
MAINTAINS: Final = 170000  # server_version_num from which on MAINTAIN can be granted

_OWNS: Final = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'public.subject'::regclass"
_GROUPS: Final = "SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1::text[]) ORDER BY 1"
_NAME: Final = "CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname"
_OURS: Final = "n.nspname IN ('public', 'keys') AND c.relkind IN ('r', 'p')"
# What is granted now to our groups and to everybody, by table and by column.
_GRANTED: Final = f"""
SELECT coalesce(r.rolname::text, 'public') AS grantee, {_NAME} AS name, a.privilege_type AS kind, '' AS attribute
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN aclexplode(c.relacl) a
LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE {_OURS} AND (a.grantee = 0 OR r.rolname LIKE $1)
UNION ALL
SELECT coalesce(r.rolname::text, 'public'), {_NAME}, a.privilege_type, t.attname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute t ON t.attrelid = c.oid AND NOT t.attisdropped CROSS JOIN aclexplode(t.attacl) a
LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE {_OURS} AND (a.grantee = 0 OR r.rolname LIKE $1)
"""  # noqa: S608 (constants of this module)
# Of everybody (0): what may be done in the database itself and its schemas, which no part needs.
_PUBLIC: Final = """
SELECT 'DATABASE ' || quote_ident(d.datname) AS place, string_agg(a.privilege_type, ', ') AS kinds
FROM pg_database d CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
WHERE d.datname = current_database() AND a.grantee = 0 GROUP BY 1
UNION ALL
SELECT 'SCHEMA ' || quote_ident(n.nspname), string_agg(a.privilege_type, ', ')
FROM pg_namespace n CROSS JOIN aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
WHERE n.nspname IN ('public', 'keys') AND a.grantee = 0 GROUP BY 1
"""
_ENTRY: Final = """
SELECT g.rolname::text,
    has_database_privilege(g.oid, current_database(), 'CONNECT') AND has_schema_privilege(g.oid, 'public', 'USAGE')
    AND has_schema_privilege(g.oid, 'keys', 'USAGE')
FROM pg_roles g WHERE g.rolname = ANY ($1::text[])
"""
_MEMBER: Final = "SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1::text[]) AND pg_has_role(oid, 'MEMBER')"
# What the connected role may do: with the columns, since a right on one of them counts.
_MAY: Final = f"""
SELECT {_NAME} AS name, k AS kind, has_table_privilege(c.oid, k) AS whole,
    CASE WHEN k IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') THEN ARRAY(
        SELECT t.attname::text FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attnum > 0 AND NOT t.attisdropped
            AND has_column_privilege(c.oid, t.attnum, k)) ELSE '{{}}' END AS columns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN unnest($1::text[]) k
WHERE {_OURS}
"""  # noqa: S608 (constants of this module)
_STANDING: Final = """
SELECT r.rolsuper AS superuser, r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls AS powers,
    EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'keys') AND pg_has_role(c.relowner, 'MEMBER')) AS owner,
    EXISTS (SELECT FROM pg_roles p WHERE p.rolname LIKE 'pg\\_%' AND p.rolname <> 'pg_database_owner'
        AND pg_has_role(p.oid, 'MEMBER')) AS predefined,
    has_database_privilege(current_database(), 'CREATE') OR has_database_privilege(current_database(), 'TEMP')
        OR has_schema_privilege('public', 'CREATE') OR has_schema_privilege('keys', 'CREATE') AS creates
FROM pg_roles r WHERE r.rolname = current_user
"""
# An owner, or from PostgreSQL 17 on who was granted it: before, nobody can be.
_MAINTAINABLE: Final = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND (pg_has_role(current_user, c.relowner, 'USAGE') OR EXISTS (
        SELECT FROM aclexplode(c.relacl) a WHERE a.privilege_type = 'MAINTAIN' AND a.grantee <> 0
            AND pg_has_role(current_user, a.grantee, 'USAGE')))
    AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1
"""


async def grant(driver: Raw) -> list[str]:
    """Every right that is missing is given, every other taken, in the caller's transaction. Answers the statements run.

    Without roles of ours in this server nothing is done: one role does everything then. Nor by who owns no table: then it is
    for `standing` to say what is missing.
    """
    groups = [row[0] for row in await driver.fetch(_GROUPS, [group_of(part) for part in PARTS])]
    if not groups or not (await driver.fetchval(_OWNS)):
        return []
    statements = await _entrances(driver, groups)
    kinds = await _kinds(driver)
    rows = await driver.fetch(_GRANTED, PREFIX.replace("_", r"\_") + "%")
    has = {Privilege(row["grantee"], row["name"], row["kind"], row["attribute"]) for row in rows}
    should = {
        one._replace(part=group_of(one.part)) for one in wanted() if group_of(one.part) in groups and one.kind in kinds
    }
    statements += [_statement("REVOKE", "FROM", one) for one in sorted(has - should)]
    statements += [_statement("GRANT", "TO", one) for one in sorted(should - has)]
    for statement in statements:
        await driver.execute(statement)
    return statements


async def parts_of_role(driver: Raw) -> frozenset[str]:
    """The parts whose groups the role of this connection belongs to: for an owner, a superuser, that says nothing."""
    rows = await driver.fetch(_MEMBER, [group_of(part) for part in PARTS])
    return frozenset(row[0].removeprefix(PREFIX) for row in rows)


async def maintainable(driver: Raw) -> list[str]:
    """The tables that this connection may vacuum, by schema and name."""
    return [row[0] for row in await driver.fetch(_MAINTAINABLE)]


def maintains(tables: Iterable[str]) -> bool:
    """True if every table that erasures delete from is among them."""
    return {one if "." in one else f"public.{one}" for one in MAINTAINED} <= set(tables)


async def standing(driver: Raw, parts: Iterable[str]) -> Standing:
    """How the role of this connection stands to these parts."""
    found = await driver.fetchrow(_STANDING)
    excess = [] if not found["superuser"] else ["it is a superuser: it reads the server's files and runs its programs"]
    if found["owner"] and not found["superuser"]:
        excess.append("it owns tables: it may change, empty and drop them")
    if found["owner"] or found["superuser"]:
        return Standing(owner=True, excess=tuple(excess))
    if found["powers"] or found["predefined"]:
        excess.append("it may make roles or databases, or belongs to a role of the server itself")
    if found["creates"]:
        excess.append("it may create tables")
    kinds = await _kinds(driver)
    should = {(one.table, one.kind, one.column) for one in wanted(frozenset(parts)) if one.kind in kinds}
    lacks: list[str] = []
    beyond: list[str] = []
    for row in await driver.fetch(_MAY, kinds):
        name, kind, columns = row["name"], row["kind"], set(row["columns"])
        asked = {column for table, one, column in should if (table, one) == (name, kind)}
        if (row["whole"] and "" not in asked) or ("" not in asked and columns - asked):
            beyond.append(f"{kind} on {name}")
        if ("" in asked and not row["whole"]) or (not row["whole"] and asked - {""} - columns):
            lacks.append(f"{kind} on {name}")
    may_vacuum = maintains(await maintainable(driver))
    return Standing(owner=False, excess=(*excess, *_told(beyond)), missing=tuple(sorted(lacks)), maintains=may_vacuum)


async def _entrances(driver: Raw, groups: list[str]) -> list[str]:
    """Statements by which only our groups enter the database and see its schemas, and nobody creates in them."""
    found = [f"REVOKE {row['kinds']} ON {row['place']} FROM PUBLIC" for row in await driver.fetch(_PUBLIC)]
    if found or not all(row[1] for row in await driver.fetch(_ENTRY, groups)):
        database = await driver.fetchval("SELECT quote_ident(current_database())")
        found.append(f"GRANT CONNECT ON DATABASE {database} TO {', '.join(groups)}")
        found.append(f"GRANT USAGE ON SCHEMA public, keys TO {', '.join(groups)}")
    return found


async def _kinds(driver: Raw) -> list[str]:
    version = int(await driver.fetchval("SELECT current_setting('server_version_num')"))
    return [*KINDS, MAINTAIN] if version >= MAINTAINS else [*KINDS]


def _statement(verb: str, way: str, one: Privilege) -> str:
    """Of names that are in `privileges` or in the catalogue of the database, and so of no value."""
    schema, _, table = one.table.rpartition(".")
    column = f' ("{one.column}")' if one.column else ""
    return f'{verb} {one.kind}{column} ON "{schema or "public"}"."{table}" {way} {one.part}'


def _told(beyond: list[str]) -> list[str]:
    if not beyond:
        return []
    known = sorted(one for one in beyond if one.partition(" on ")[2] in TABLES)
    named = ", ".join((known or sorted(beyond))[:MAX_NAMED])
    more = f" and {len(beyond) - MAX_NAMED} more" if len(beyond) > MAX_NAMED else ""
    return [f"it has {named}{more}"]
