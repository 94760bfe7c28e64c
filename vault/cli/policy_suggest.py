"""`policy suggest`: the lines that would keep what was dropped as unlisted. Printed for review; never applied."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from vault import durable
from vault.bootstrap import policies_folder
from vault.catalogue.load import Catalogue, read_folder
from vault.cli.opening import with_vault
from vault.cli.output import emit, json_option
from vault.config import load
from vault.errors import Invalid, NotFound, PolicyError
from vault.flows.vault import Vault
from vault.policy import history, version
from vault.policy.store import Connection
from vault.sources import store
from vault.sources.dropped import Drop
from vault.sources.remedies import remedy
from vault.sources.suggestions import UNLISTED, Suggester, Suggestion

_Counts = dict[Drop, int]


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--source", "name", help="Only what this source sent. Left out: every source.")
@click.option(
    "--purpose",
    "purposes",
    multiple=True,
    help="What it is to be collected for; may be repeated. Left out: one purpose.",
)
@click.option("--write", is_flag=True, help="Append the lines to the files of FOLDER, if it still checks then.")
@json_option
@click.pass_context
def suggest(
    ctx: click.Context, folder: Path | None, name: str | None, purposes: tuple[str, ...], *, write: bool
) -> None:
    """Print the lines of policy that would keep what was dropped as unlisted, with numbers that are free.

    \b
    Example:
      profile-vault policy suggest
      profile-vault policy suggest --source shop --purpose analytics --purpose service
      profile-vault policy suggest --write && git diff policies/

    Read from the counters of `sources dropped`, compared with FOLDER (by default the one of the settings). Each block may be
    pasted at the end of its file as it is. Type, category and purposes are guesses to be reviewed: collecting something needs a
    reason. Nothing is applied: `policy check`, `policy test` and `policy apply` do that.
    """
    settings = load()
    place = policies_folder(settings) if folder is None else folder
    if write and folder is None and settings.policies is None:
        raise Invalid("These are the policies of the installed example shop; name a folder of your own to write to.")
    files = read_folder(place)
    catalogue = version.check(files).catalogue
    _known(catalogue, purposes)

    async def journey(vault: Vault) -> tuple[_Counts, dict[str, set[int]]]:
        async with vault.database.begin() as connection:
            return await _counts(connection, name), await version.numbers_given(connection)

    counts, given = with_vault(journey, create=False)
    for scope, numbers in history.given([files]).items():
        given.setdefault(scope, set()).update(numbers)
    found, others = _suggested(Suggester(catalogue, given, purposes), counts)
    grown = _grown(files, found)
    problems = _problems(grown)
    if write and problems:
        raise PolicyError(problems)
    if write:
        for path in {one.file for one in found}:
            _replace(place / path, grown[path])
    data = {
        "folder": str(place),
        "written": write and bool(found),
        "suggestions": [{"file": one.file, "lines": list(one.lines), "count": count} for one, count in found.items()],
        "others": others,
        "problems": list(problems),
    }
    emit(ctx, data, _text(place, found, others, problems, written=write))


def _replace(path: Path, text: str) -> None:
    """The file as a whole or as it was, with the mode that it had."""
    mode = path.stat().st_mode & 0o777
    durable.write(path, text.encode())
    path.chmod(mode)


async def _counts(connection: Connection, name: str | None) -> _Counts:
    """Drops of one source or of all. Raises `NotFound` for a source that is not there."""
    counts: Counter[Drop] = Counter()
    rows = await store.everyone(connection)
    wanted = [row.source for row in rows if name is None or (row.source.name == name and row.disabled_at is None)]
    if not wanted and name is not None:
        raise NotFound("No such source; `profile-vault sources list` names them, `sources add` makes one.")
    for source in wanted:
        for one in await store.read_dropped(connection, source.source_id):
            counts[Drop(one.type, one.name, one.reason)] += one.count
    return dict(counts)


def _known(catalogue: Catalogue, purposes: tuple[str, ...]) -> None:
    for one in purposes:
        if one not in catalogue.purposes:
            raise Invalid(f"The policies have no such purpose; known are {', '.join(catalogue.purposes)}.")


def _suggested(suggester: Suggester, counts: _Counts) -> tuple[dict[Suggestion, int], list[dict[str, Any]]]:
    """Suggestions with how often each would have helped; and what no line would keep, with what to do instead."""
    found: dict[Suggestion, int] = {}
    others: list[dict[str, Any]] = []
    for drop, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        one = suggester.suggest(drop)
        if one is not None:
            found[one] = found.get(one, 0) + count
        elif drop.reason != UNLISTED or not suggester.listed(drop):
            others.append(
                {"type": drop.type, "name": drop.name, "reason": drop.reason, "count": count, "remedy": remedy(drop)}
            )
    return found, others


def _grown(files: Mapping[str, str], found: Mapping[Suggestion, int]) -> dict[str, str]:
    """The files with the lines appended."""
    grown = dict(files)
    for one in found:
        grown[one.file] = grown[one.file].rstrip("\n") + "\n\n" + one.text
    return grown


def _problems(grown: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with the files when the lines are pasted: nothing, unless they are written in an unusual form."""
    try:
        version.check(grown)
    except PolicyError as error:
        return error.problems
    return ()


def _text(
    place: Path,
    found: Mapping[Suggestion, int],
    others: list[dict[str, Any]],
    problems: tuple[str, ...],
    *,
    written: bool,
) -> str:
    lines: list[str] = []
    for file in sorted({one.file for one in found}):
        lines += [
            f"# --- {place / file} {'(appended)' if written else '(append)'}; review type, category and purposes",
            "",
        ]
        for one, count in found.items():
            if one.file == file:
                lines += [f"# dropped {count} times" if count > 1 else "# dropped once", *one.lines, ""]
    if not found:
        lines.append("# Nothing was dropped that a line would keep.")
    if others:
        lines.append("# No line of these files keeps the rest:")
        lines += [
            f"#   {one['count']} x {one['type']} {one['name']}, {one['reason']}: {one['remedy']}" for one in others
        ]
    lines += [f"# Pasted as they are they do not fit: {one}" for one in problems]
    if found:
        lines.append(f"# Then: profile-vault policy check {place} && profile-vault policy apply {place}")
    return "\n".join(lines)
