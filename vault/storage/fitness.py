"""Whether a PostgreSQL server may hold the vault: version, primary, durable, and a log without values. Changes nothing."""

from typing import TYPE_CHECKING, Any, Final

from vault.errors import ConfigError

if TYPE_CHECKING:
    from vault.storage.session import Raw

OLDEST: Final = 150000  # server_version_num of PostgreSQL 15
_SETTINGS: Final = (
    "server_version_num",
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "log_statement",
    "log_min_duration_statement",
    "log_min_duration_sample",
    "log_transaction_sample_rate",
    "log_parameter_max_length",
    "log_parameter_max_length_on_error",
    "auto_explain.log_min_duration",
    "auto_explain.log_parameter_max_length",
    "log_min_error_statement",
    "log_error_verbosity",
    "debug_print_parse",
    "debug_print_rewritten",
    "debug_print_plan",
)
_OTHERS: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'profile-vault' AND pid <> pg_backend_pid()
"""
# A statement that failed is printed at this level or below; DETAIL prints rows; a plan holds the values bound to it.
_SILENT: Final = ("log", "fatal", "panic")


async def check_server(connection: "Raw") -> None:
    """Raises `ConfigError` naming everything about the server that must change."""
    rows = await connection.fetch("SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])", list(_SETTINGS))
    found = {row["name"]: row["setting"] for row in rows}
    problems = unfit(found)
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        problems.append("it is a standby: the vault reads and writes the primary only")
    if problems:
        how = " Change one with `ALTER SYSTEM SET name = 'value'` as a superuser, then `SELECT pg_reload_conf()`."
        raise ConfigError("the PostgreSQL server is not fit: " + "; ".join(problems) + "." + how)


async def others(connection: "Raw") -> int:
    """How many other sessions of the vault this database has."""
    return int(await connection.fetchval(_OTHERS))


async def is_superuser(connection: "Raw") -> bool:
    """Whether the role of this connection is a superuser of the server: it could read its files and run its programs."""
    return bool(await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))


def unfit(settings: dict[str, Any]) -> list[str]:
    """What is wrong with these values of pg_settings, a sentence each. A setting that the server lacks is not wrong."""
    problems = []
    if int(settings.get("server_version_num", 0)) < OLDEST:
        problems.append("it is older than PostgreSQL 15")
    problems += [f"set {name} = on" for name in ("fsync", "full_page_writes") if settings.get(name) != "on"]
    if settings.get("synchronous_commit") == "off":
        problems.append("set synchronous_commit = on: what was acknowledged must survive a crash")
    if _logs_statements(settings) and settings.get("log_parameter_max_length") != "0":
        problems.append(
            "it logs statements with their values: set log_statement = none and log_min_duration_statement = -1,"
            " or log_parameter_max_length = 0"
        )
    if settings.get("log_parameter_max_length_on_error", "0") != "0":
        problems.append("set log_parameter_max_length_on_error = 0")
    if (
        settings.get("auto_explain.log_min_duration", "-1") != "-1"
        and settings.get("auto_explain.log_parameter_max_length") != "0"
    ):
        problems.append("set auto_explain.log_parameter_max_length = 0")
    if settings.get("log_min_error_statement", "panic") not in _SILENT:
        problems.append("set log_min_error_statement = panic: it logs statements that fail")
    if settings.get("log_error_verbosity", "terse") != "terse":
        problems.append("set log_error_verbosity = terse: its log shows rows in DETAIL")
    printing = ("debug_print_parse", "debug_print_rewritten", "debug_print_plan")
    problems += [f"set {name} = off: it logs bound values" for name in printing if settings.get(name, "off") != "off"]
    return problems


def _logs_statements(settings: dict[str, Any]) -> bool:
    return (
        settings.get("log_statement", "none") in {"mod", "all"}
        or settings.get("log_min_duration_statement", "-1") != "-1"
        or settings.get("log_min_duration_sample", "-1") != "-1"
        or float(settings.get("log_transaction_sample_rate", "0")) > 0
    )
