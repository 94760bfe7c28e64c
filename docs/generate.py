"""Write what the code itself knows best: pages of errors, commands, the example shop; schemas of policy files.

`make docs` runs it; a test compares. Reads declarations only: error classes, the table of statuses, calls that name a
code, the commands' own help, `policies/`.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from api import problems
from vault import errors
from vault.catalogue.load import load, read_folder
from vault.cli import main as cli
from vault.clock import DAY
from vault.policy.begin import schema_files
from vault.policy.schemas import FOLDER
from vault.sources.remedies import CODES
from vault.storage.privileges import KINDS, MAINTAIN, PARTS, TABLES, Privilege, wanted

ROOT: Final = Path(__file__).resolve().parent.parent
REFERENCE: Final = ROOT / "docs" / "reference"
MADE: Final = "<!-- made by `make docs`; change the code, not this page -->"


def pages() -> dict[Path, str]:
    """Every generated page, by path."""
    return {
        REFERENCE / "errors.md": errors_page(),
        REFERENCE / "cli.md": commands_page(),
        REFERENCE / "example-shop.md": shop_page(),
        REFERENCE / "database-roles.md": roles_page(),
        ROOT / "docs" / "index.md": index_page(),
        **{ROOT / "policies" / FOLDER / name: text for name, text in schema_files().items()},
    }


# --- roles of the database --------------------------------------------------------------------------------------------


def roles_page() -> str:
    """Every table, and what each door and duty may do to it."""
    lines = [
        "# What each process may do in the database",
        "",
        MADE,
        "",
        "For each door and duty PostgreSQL has a role `profile_vault_PART` that cannot log in; a process connects as a login that",
        "belongs to those of its doors and duties (`profile-vault database login`). Whoever owns the database migrates,",
        "grants, and runs commands. What stands here is granted by `keys init` and `migrate`, and nothing else: no part",
        "creates, alters, empties or drops a table. S: read; I: insert; U: update; D: delete; M: vacuum. In brackets: these",
        "columns only. `pin` is a column that means nothing: the right to update it is the right to hold a row while a release is",
        "put on record. Why: [ADR 0125](../adr/0125-a-role-of-the-database-for-each-part.md).",
        "",
        f"| Table | {' | '.join(PARTS)} |",
        f"|---|{'---|' * len(PARTS)}",
    ]
    for table in TABLES:
        cells = [_cell([one for one in wanted(frozenset((part,))) if one.table == table]) for part in PARTS]
        lines.append(f"| `{table}` | {' | '.join(cells)} |")
    lines += ["", "A process with the door `ingest` also has the duty `due`, one with `desk` also `requests`.", ""]
    return "\n".join(lines)


def _cell(given: list[Privilege]) -> str:
    """The letters of some rights on one table."""
    found = []
    for kind in (*KINDS, MAINTAIN):
        columns = sorted(one.column for one in given if one.kind == kind)
        if columns:
            found.append(kind[0] + (f" ({', '.join(columns)})" if columns != [""] else ""))
    return " ".join(found)


# --- errors ---------------------------------------------------------------------------------------------------------


def errors_page() -> str:
    """All codes, with HTTP status and meaning; exact codes under the family that they belong to."""
    families = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.VaultError) and kind is not errors.VaultError
    ]
    families = [kind for kind in families if "code" in vars(kind)]  # one without is told as its parent is
    families.sort(key=lambda kind: inspect.getsourcelines(kind)[1])
    exact = exact_codes()
    lines = [
        "# Errors",
        "",
        MADE,
        "",
        "HTTP answers are `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail`, `code` and",
        "`message`. Codes are stable; sentences may change. No error repeats what was sent. The command line prints the sentence",
        "and ends with 1; with `--json` it prints `code` and `message` on stderr.",
        "",
    ]
    for kind in families:
        status, title = problems.status_of(kind(()) if kind is errors.PolicyError else kind())
        lines += [f"## `{kind.code}`: {status} {title}", "", f"{inspect.getdoc(kind)}", ""]
        more = sorted(exact.get(kind.__name__, set()) - {kind.code})
        if more:
            lines += ["More exactly: " + ", ".join(_with_status(code) for code in more) + ".", ""]
    lines += [
        "## `internal`: 500 Internal error",
        "",
        "Something nobody expected. The log has the kind of error, never its text.",
        "",
        *_drops(),
    ]
    return "\n".join(lines)


def _drops() -> list[str]:
    """The codes of what was sent, taken, and not stored."""
    rows = [
        f"| `{name}` | {code.meaning} | {code.remedy[:1].upper()}{code.remedy[1:]}. |" for name, code in CODES.items()
    ]
    return [
        "## Drop codes",
        "",
        "No errors: the call is answered, and says of each message that it did not store why not (`dropped` in the answer to a",
        "server source). `profile-vault sources dropped NAME` counts them by type, name and reason, with properties and traits.",
        "The answer does not wait for the counters: what could not be counted goes with the next body of that source to that",
        "process.",
        "",
        "| Code | Meaning | What to do |",
        "|---|---|---|",
        *rows,
        "",
    ]


def exact_codes() -> dict[str, set[str]]:
    """Class of error -> the exact codes that calls name, as in `Invalid("...", code="no_token")` or `code=FULL`."""
    found: dict[str, set[str]] = {}
    for path in sources():
        tree = ast.parse(path.read_text("utf-8"))
        constants = _constants(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
            for keyword in node.keywords:
                if keyword.arg == "code" and isinstance(name, str):
                    found.setdefault(name, set()).update(_texts(keyword.value, constants))
    told = {code for codes in found.values() for code in codes}
    # What the framework refuses is told by its status: no call names such a code.
    found.setdefault("Invalid", set()).update(problems.EXACT.keys() - told)
    return found


def _constants(tree: ast.Module) -> dict[str, str]:
    """The texts that a module gives a name to."""
    found = {}
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found.update({target.id: value.value for target in targets if isinstance(target, ast.Name)})
    return found


def _texts(node: ast.expr, constants: dict[str, str]) -> set[str]:
    """The texts that an argument may be: itself, a constant's, or either of two."""
    if isinstance(node, ast.IfExp):
        return _texts(node.body, constants) | _texts(node.orelse, constants)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    return {constants[node.id]} if isinstance(node, ast.Name) and node.id in constants else set()


def _with_status(code: str) -> str:
    return f"`{code}` ({problems.EXACT[code][0]})" if code in problems.EXACT else f"`{code}`"


def sources() -> Iterator[Path]:
    """Every module of ours."""
    for folder in ("vault", "api"):
        yield from sorted((ROOT / folder).rglob("*.py"))


# --- commands -------------------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Every command with its arguments and options, in the order of `profile-vault --help`."""
    lines = ["# Commands", "", MADE, "", _text(cli.main.help), ""]
    for path, command in commands(cli.main, ("profile-vault",)):
        usage = [*path, *_arguments(command)]
        lines += [f"{'#' * len(path)} `{' '.join(usage)}`", "", _text(command.help), ""]
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden and option.help:
                lines.append(f"- `{_flag(option)}`: {option.help}{_default(option)}")
        lines.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, with the words that call it."""
    context = click.Context(group, info_name=path[-1])
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def _arguments(command: click.Command) -> list[str]:
    if isinstance(command, click.Group):
        return ["COMMAND"]
    return [str(one.name).upper() for one in command.params if isinstance(one, click.Argument)]


def _flag(option: click.Option) -> str:
    names = " / ".join([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    kind = option.type
    return f"{names} {'|'.join(map(str, kind.choices)) if isinstance(kind, click.Choice) else kind.name.upper()}"


def _default(option: click.Option) -> str:
    shown = option.show_default and option.default is not None and not option.is_flag
    return f" Default: `{option.default}`." if shown else ""


def _text(help_text: str | None) -> str:
    """Help as Markdown: what click keeps as it is (after its mark, a backspace) becomes a block of code."""
    parts = []
    for paragraph in inspect.cleandoc(help_text or "").split("\n\n"):
        if paragraph.startswith("\b"):
            parts.append("```\n" + inspect.cleandoc(paragraph.removeprefix("\b").strip("\n")) + "\n```")
        else:
            parts.append(paragraph)
    return "\n\n".join(parts)


# --- the example shop -----------------------------------------------------------------------------------------------


def shop_page() -> str:
    """What `policies/` says: purposes, and who may receive what."""
    catalogue = load(read_folder(ROOT / "policies"))
    lines = [
        "# The policies of the example shop",
        "",
        MADE,
        "",
        "What the folder `policies/` says. It decides everything; this page only reads it out. A purpose on the",
        "basis of consent needs a grant that has not expired.",
        "",
        "## Purposes",
        "",
        "| Purpose | For | Basis | Consent category | Kept | At erasure |",
        "|---|---|---|---|---|---|",
    ]
    for purpose in catalogue.purposes.values():
        kept = "while its basis holds" if purpose.retention is None else f"{purpose.retention // DAY} days"
        end = f"kept (Art. {purpose.keep_ground})" if purpose.on_erasure == "keep" else "erased"
        basis = purpose.legal_basis.replace("_", " ")
        lines.append(
            f"| `{purpose.name}` | {purpose.title} | {basis} | {', '.join(purpose.categories) or 'none'} | {kept} | {end} |"
        )
    lines += ["", "## Destinations", ""]
    for contract in catalogue.contracts.values():
        where = contract.country + (f"; {contract.transfer}" if contract.transfer else "")
        purposes = ", ".join(f"`{name}`" for name in catalogue.names(contract.purposes))
        lines += [f"### {contract.name}", "", f"{contract.recipient} ({contract.role}, {where}), for {purposes}.", ""]
        for name, transforms in contract.traits.items():
            lines.append(f"- trait `{name}`: {' or '.join(transforms)}")
        for name, terms in contract.identifiers.items():
            lines.append(f"- identifier `{name}` ({terms.which}): {' or '.join(terms.transforms)}")
        lines += [f"- audience `{name}`" for name in contract.audiences]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


# --- the index ------------------------------------------------------------------------------------------------------

FOLDERS: Final = (
    ("tutorial", "Learn"),
    ("how-to", "Do"),
    ("reference", "Look up"),
    ("explanation", "Understand"),
    ("formats", "Check: every byte form that is stored or signed"),
    ("adr", "Decisions"),
)


def index_page() -> str:
    """Every page under the need that it serves, by its own title."""
    docs = ROOT / "docs"
    lines = [
        "# Documentation",
        "",
        MADE,
        "",
        "What it protects, and what it does not: [the threat model](threat-model.md). How fast it is, as measured:",
        "[benchmarks](benchmarks.md).",
        "",
    ]
    for folder, need in FOLDERS:
        lines += [f"## {need}", ""]
        found = {*(docs / folder).glob("[!_]*.md")} - {docs / "adr" / "0000-template.md"}  # which decides nothing
        found |= {*(path for path in pages_made() if path.parent.name == folder)}
        lines += [f"- [{title(path)}]({path.relative_to(docs)})" for path in sorted(found)]
        lines += ["- the HTTP interface as OpenAPI: `/schema` of a running vault"] if folder == "reference" else []
        lines.append("")
    return "\n".join(lines)


def pages_made() -> dict[Path, str]:
    """Titles of the pages that this module writes, which may not be there yet."""
    return {
        REFERENCE / "errors.md": "Errors",
        REFERENCE / "cli.md": "Commands",
        REFERENCE / "example-shop.md": "The policies of the example shop",
        REFERENCE / "database-roles.md": "What each process may do in the database",
    }


def title(path: Path) -> str:
    """The first heading of a page."""
    if path in pages_made():
        return pages_made()[path]
    return path.read_text("utf-8").split("\n", 1)[0].removeprefix("# ")


def main() -> int:
    """Write the pages; answers how many changed."""
    changed = 0
    for path, text in pages().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            changed += 1
    sys.stdout.write(f"{len(pages())} pages, {changed} changed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
