"""`journal`: moves the journal of narrowings between a folder and a second PostgreSQL."""

import asyncio
from pathlib import Path

import rich_click as click

from vault.bootstrap import journals
from vault.cli.output import emit, json_option
from vault.config import load, url_in
from vault.errors import ConfigError
from vault.journal.frames import Head
from vault.journal.moving import move as moved


@click.group()
def journal() -> None:
    """Move the journal of narrowings to another place."""


@journal.command()
@click.option("--folder", type=click.Path(), help="Move it into this folder.")
@click.option(
    "--url-file", type=click.Path(path_type=Path), help="Move it to the PostgreSQL whose URL this file holds."
)
@json_option
@click.pass_context
def move(ctx: click.Context, folder: str | None, url_file: Path | None) -> None:
    """Move the journal from where the settings say to another place. Stop every process of the vault first.

    \b
    Example:
      profile-vault journal move --url-file /etc/profile-vault/journal-url
      PROFILE_VAULT_JOURNAL_URL_FILE=/etc/profile-vault/journal-url profile-vault serve

    The chain is verified on both sides, and the audit head goes with it. The old place is shut, and stays: who still writes
    there is refused. Stopped in the middle, nothing is lost; give the same command again. Then set `journal`
    (or `journal_url_file`) to the new place.
    """
    if (folder is None) == (url_file is None):
        raise click.UsageError("name --folder or --url-file")
    target = url_in(url_file, "--url-file") if url_file is not None else _folder(folder)

    async def journey() -> Head:
        async with journals(load(), target) as (source, there):
            return await asyncio.to_thread(moved, source, there)

    end = asyncio.run(journey())
    answer: dict[str, int | str] = {"entries": end.number, "hash": end.hash.hex()}
    setting = "journal" if url_file is None else "journal_url_file"
    answer["setting"] = setting
    emit(ctx, answer, f"{end.number} entries moved, whole on both sides. Now set `{setting}` to the new place.")


def _folder(folder: str | None) -> Path:
    if folder is None or "://" in folder:  # a URL on the command line would be there for all to see
        raise ConfigError("--folder takes a folder; the URL of a database goes into a file, for --url-file")
    return Path(folder).absolute()
