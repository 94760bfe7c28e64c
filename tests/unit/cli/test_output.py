"""How commands speak, and that help is quick and whole."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
import rich_click as click
from click.testing import CliRunner

from vault.cli.main import COMMANDS, LazyGroup, main
from vault.cli.output import emit, json_option, table
from vault.errors import NotFound, PolicyError


@click.group(cls=LazyGroup)
def group() -> None:
    """A group."""


@group.command()
@json_option
@click.pass_context
def fine(ctx: click.Context) -> None:
    """Says something."""
    emit(ctx, {"names": ["a"]}, table(["NAME"], [["a[red]b\x1b[31m"]], empty="nothing"))


@group.command()
@json_option
@click.pass_context
def wide(ctx: click.Context) -> None:
    """Says much."""
    emit(ctx, {}, table(["ONE", "TWO"], [["a" * 90, "b" * 90]], empty="nothing"))


@group.command()
@json_option
@click.pass_context
def empty(ctx: click.Context) -> None:
    """Has nothing to say."""
    emit(ctx, {"names": []}, table(["NAME"], [], empty="There is nothing yet."))


@group.command()
@json_option
def missing() -> None:
    """Fails."""
    raise NotFound("Look elsewhere.")


@group.command()
@json_option
def broken() -> None:
    """Fails with many problems."""
    raise PolicyError(["a.toml:1: no", "b.toml:2: no"])


def test_json_is_the_only_thing_on_stdout() -> None:
    done = CliRunner().invoke(group, ["fine", "--json"])
    assert (done.exit_code, json.loads(done.stdout), done.stderr) == (0, {"names": ["a"]}, "")


def test_a_table_in_a_pipe_folds_nothing() -> None:
    done = CliRunner().invoke(group, ["wide"])
    assert f"{'a' * 90}  {'b' * 90}" in done.stdout


def test_f5_names_cannot_forge_markup_or_escapes() -> None:
    done = CliRunner().invoke(group, ["fine"])
    assert "a[red]b?[31m" in done.stdout
    assert "\x1b" not in done.stdout


def test_nothing_is_said_in_a_sentence() -> None:
    assert CliRunner().invoke(group, ["empty"]).stdout == "There is nothing yet.\n"


def test_an_error_is_one_line_that_says_what_to_do() -> None:
    done = CliRunner().invoke(group, ["missing"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "There is no such thing here. Look elsewhere.\n"


def test_an_error_is_one_json_object_for_programs() -> None:
    done = CliRunner().invoke(group, ["missing", "--json"])
    assert (done.exit_code, done.stdout) == (1, "")
    told = json.loads(done.stderr)
    assert told == {"code": "not_found", "message": NotFound.sentence, "hint": "Look elsewhere."}


def test_every_problem_of_the_policies_is_told() -> None:
    done = CliRunner().invoke(group, ["broken"])
    assert done.stderr.splitlines()[1:] == ["a.toml:1: no", "b.toml:2: no"]
    told = json.loads(CliRunner().invoke(group, ["broken", "--json"]).stderr)
    assert told["problems"] == ["a.toml:1: no", "b.toml:2: no"]


def test_wrong_usage_ends_with_2() -> None:
    assert CliRunner().invoke(main, ["sources", "add", "shop"]).exit_code == 2
    assert CliRunner().invoke(main, ["nonsense"]).exit_code == 2


def _leaves(command: click.Command) -> Iterator[click.Command]:
    if not isinstance(command, click.Group):
        yield command
        return
    for one in command.commands.values():
        yield from _leaves(one)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_exists_and_teaches_with_an_example(name: str) -> None:
    context = click.Context(main)
    command = main.get_command(context, name)  # type: ignore[attr-defined]
    assert command is not None
    nested = list(_leaves(command))
    for one in nested:
        assert one.help is not None
        assert "profile-vault" in one.help, one.name
        assert any("--json" in option.opts for option in one.params), one.name


def test_help_imports_no_command() -> None:
    program = (
        "import sys; from vault.cli.main import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603
    loaded = done.stdout.splitlines()[-1].split()
    assert not {"sqlalchemy", "uvicorn", "litestar", "vault.bootstrap"} & set(loaded)
    assert all(name in done.stdout for name in COMMANDS)
