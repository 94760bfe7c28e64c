"""The command `profile-vault`: a table of commands, each loaded only when it is called, so that help is quick."""

import importlib
from typing import Any, Final

import rich_click as click

from vault.cli.memory import keep_memory_private
from vault.cli.output import fail
from vault.errors import VaultError

# name -> (module:attribute, the line that help shows). The line stands here so that help imports nothing else.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("vault.cli.demo:demo", "See the whole story run, on a vault of its own."),
    "serve": ("vault.cli.serve:serve", "Answer HTTP: ingest, feeds, lookup and the rights desk."),
    "worker": ("vault.cli.worker:worker", "Run the background loops in a process of their own."),
    "migrate": ("vault.cli.migrate:migrate", "Bring the database to the schema of this release."),
    "sources": ("vault.cli.sources:sources", "The apps that write: add, list, watch live, and see what was dropped."),
    "destinations": ("vault.cli.destinations:destinations", "The recipients that read: list, tokens and webhooks."),
    "staff": ("vault.cli.staff:staff", "The people who work here: add, list, disable."),
    "import": ("vault.cli.import_:import_", "Read tracking messages from a file, as often as you like."),
    "policy": ("vault.cli.policy:policy", "Begin, check, test and apply the policies folder; what is missing in it."),
    "keys": ("vault.cli.keys:keys", "Which keys there are and what they protect."),
    "journal": ("vault.cli.journal:journal", "Move the journal of narrowings to another place."),
    "audit": ("vault.cli.audit:audit", "Verify the audit log; print its head; accept a loss."),
    "database": ("vault.cli.database:database", "The roles by which processes connect to PostgreSQL."),
    "doctor": ("vault.cli.doctor.command:doctor", "Look at everything that can be wrong here, and say what to do."),
    "erasures": ("vault.cli.erasures:erasures", "Look for what an erasure left; check its certificate; replay."),
    "requests": ("vault.cli.requests:requests", "What people asked for, and where it stands."),
    "backup": ("vault.cli.backup:backup", "Write data, keys and journal as three archives."),
    "restore": ("vault.cli.backup:restore", "Go back to a backup, without bringing anybody back."),
    "bench": ("bench.command:bench", "Measure this machine, beside plaintext that does the same work."),
}


class LazyGroup(click.RichGroup):
    """A group that imports a command when it is needed, and turns the vault's errors into one line and exit code 1."""

    _listing = False  # while help is drawn: names and lines only, nothing is imported

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Draw the help from the table above."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the day."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        if self._listing:
            return click.RichCommand(name=cmd_name, help=COMMANDS[cmd_name][1])
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is no command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the vault refuses is told in one line."""
        try:
            return super().invoke(ctx)
        except VaultError as error:
            fail(ctx, error)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="profile-vault", prog_name="profile-vault")
def main() -> None:
    """Profile Vault: one encrypted, consented profile per person, with proof of everything that happened to it.

    To begin: `profile-vault demo`. To run your own:

    \b
      profile-vault sources add shop --class server     prints the write key for the Segment SDK
      profile-vault destinations token warehouse        prints the token that reads the feed
      profile-vault serve                               answers on http://127.0.0.1:8000
      profile-vault doctor                              says what is wrong, if something is

    Settings come from `profile-vault.toml` and `PROFILE_VAULT_*`; every command takes `--json`.
    """
    keep_memory_private()  # here, since nearly every command opens the vault, and so holds the root key


if __name__ == "__main__":
    main()
