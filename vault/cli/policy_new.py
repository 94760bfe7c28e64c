"""`policy init` and `policy schemas`: a folder to begin with, and help for the editor. Neither opens a vault."""

from pathlib import Path

import rich_click as click

from vault.bootstrap import shipped_policies
from vault.catalogue.load import read_folder
from vault.cli.output import emit, json_option
from vault.policy import version
from vault.policy.begin import STARTER, begin, write_schemas
from vault.policy.schemas import FOLDER, schemas


@click.command()
@click.argument("folder", default="policies", type=click.Path(path_type=Path))
@click.option(
    "--shop", is_flag=True, help="Copy the policies of the example shop instead: more to read, less to begin with."
)
@json_option
@click.pass_context
def init(ctx: click.Context, folder: Path, *, shop: bool) -> None:
    """Write a policies folder to begin with into FOLDER (by default ./policies): small, whole, with comments.

    \b
    Example:
      profile-vault policy init                  two purposes, three traits, four calls, one destination
      profile-vault policy init shop --shop      what the demonstration uses
      profile-vault policy check ./policies      holds together as it is; change it and check again

    Put it under version control: it decides what is stored and who gets it. FOLDER must be new or empty. Then send what your
    app sends, and ask `profile-vault sources watch NAME` and `profile-vault policy suggest` for the lines that are missing.
    """
    files = read_folder(shipped_policies() if shop else STARTER)
    version.check(files)
    written = begin(folder, files)
    said = (
        f"{len(files)} files are in {folder}. Read purposes.toml first, then: profile-vault policy check {folder}\n"
        f"Editors that know `#:schema` lines (Taplo, Even Better TOML) complete and check by {folder / FOLDER}."
    )
    emit(ctx, {"folder": str(folder), "files": written}, said)


@click.command(name="schemas")
@click.option(
    "--write", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write them into this folder instead."
)
@json_option
@click.pass_context
def print_schemas(ctx: click.Context, folder: Path | None) -> None:
    """Print the JSON Schemas of all TOML files of a policies folder, as one object by the name of the file.

    \b
    Example:
      profile-vault policy schemas --write policies/.schemas
      profile-vault policy schemas | jq .events

    Each shipped file names its schema in its first line, `#:schema ./.schemas/NAME.schema.json`, which editors with Taplo
    read. A schema sees one file; that names are declared and numbers free, only `policy check` can say.
    """
    if folder is None:
        made = schemas()
        emit(ctx, made, lambda console: console.print_json(data=made))
        return
    written = write_schemas(folder)
    emit(ctx, {"folder": str(folder), "files": written}, f"{len(written)} schemas are in {folder}.")
