"""`database`: the roles by which processes connect to PostgreSQL."""

from pathlib import Path
from typing import Final

import rich_click as click

from vault.cli.output import emit, json_option
from vault.cli.roles import as_usage, parts_of
from vault.crypto.scram import SALT_BYTES, verifier
from vault.durable import read_private
from vault.errors import ConfigError, Unreadable
from vault.ids import random_bytes
from vault.storage import logins

MAX_PASSWORD_BYTES: Final = 1024


@click.group()
def database() -> None:
    """The roles by which processes connect to PostgreSQL."""


@database.command()
@click.argument("name")
@click.option("--doors", default="", metavar="LIST", help="As for `serve`.")
@click.option("--duties", default="", metavar="LIST", help="As for `worker`.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its password, in a file closed to others. Only what the server keeps of it (SCRAM-SHA-256) is printed. Without it:"
    " none is set.",
)
@json_option
@click.pass_context
def login(ctx: click.Context, name: str, doors: str, duties: str, password_file: Path | None) -> None:
    """Print the SQL that makes the role NAME for a process of these doors and duties, with their rights and no others.

    \b
    Example:
      profile-vault database login vault_feed --doors feed --password-file feed.password | psql -U postgres -d vault
      profile-vault keys init

    A superuser runs the SQL; the vault itself needs none. It makes the groups that hold the rights (`profile_vault_feed` …)
    where they are missing, and a login that belongs to those of its doors and duties. `keys init` and `migrate`, run by the
    role that owns the database, then give each group what docs/reference/keys.md says. Where it is run, the SQL also
    takes from everybody the functions that make large objects or write into the log of writes, past all grants. Twice is harmless.
    """
    with as_usage():
        parts = parts_of(doors, duties)
    kept = None
    if password_file is not None:
        try:
            password = read_private(password_file, MAX_PASSWORD_BYTES).decode("ascii").strip()
            kept = verifier(password, random_bytes(SALT_BYTES))
        except (ValueError, Unreadable):
            raise ConfigError("a password is one line of printable ASCII; draw one: openssl rand -hex 32") from None
    sql = logins.groups() + logins.closed() + logins.login(name, parts, kept)
    emit(ctx, {"role": name, "parts": sorted(parts), "sql": sql}, sql.rstrip())
