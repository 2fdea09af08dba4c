"""Write docs/commands.md, docs/targets.md and docs/rules.md from the commands and their data.

    python docs/make_reference.py

``tests/test_docs.py`` fails when a page differs from the output of this script.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click

from bakit.cli import main
from bakit.export.check import RULES
from bakit.targets import targets

MADE = "Made by `python docs/make_reference.py`."
BLOCK = re.compile(r"\x08\n(?:Examples?:\n)?(.*?)(?=\n\n|\Z)", re.DOTALL)
"""A block that click does not wrap."""


def commands() -> str:
    """Return the page of all commands."""
    context = click.Context(main, info_name="bakit", **main.context_settings)
    parts = [f"# Commands\n\n{MADE} `bakit COMMAND --help` prints the same.\n"]
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        pieces = command.collect_usage_pieces(click.Context(command, context, info_name=name))
        parts.append(f"## bakit {name}\n\n```\nbakit {' '.join([name, *pieces])}\n```\n")
        text = inspect.cleandoc(command.help or "")
        parts.append(BLOCK.sub(lambda m: f"```\n{inspect.cleandoc(m[1])}\n```", text) + "\n")
        options = [param for param in command.params if isinstance(param, click.Option)]
        parts.append("\n".join(option(param, context) for param in options) + "\n")
    return "\n".join(parts)


def option(param: click.Option, context: click.Context) -> str:
    """Return an option with its values, meaning and default."""
    names = ", ".join(param.opts) + "".join(f" / {name}" for name in param.secondary_opts)
    kind = param.type.name.removesuffix(" range").upper()
    if isinstance(param.type, click.Choice):
        kind = "|".join(map(str, param.type.choices))
    values = "" if param.is_flag or param.count else f" {param.metavar or kind}"
    about = " ".join((param.help or "").split()) + " Required." * param.required
    default = param.get_help_extra(context).get("default")
    return f"* `{names}{values}`: {about}" + f" Default: `{default}`." * bool(default)


def table(title: str, head: str, rows: list[tuple[str, ...]]) -> str:
    """Return a page with a table; ``head`` names the columns, separated by ``|``."""
    lines = [f"| {head} |", "| --- " * (head.count("|") + 1) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return f"# {title}\n\n{MADE}\n\n" + "\n".join(lines) + "\n"


def target_table() -> str:
    """Return the page of all targets."""
    rows = []
    for name, it in targets().items():
        precisions = ", ".join(sorted(item.value for item in it.precisions))
        extras = f"`{it.export_extra}`; `{it.extra}`"
        rows.append((f"`{name}`", it.title, precisions, extras, it.verified, it.note))
    return table("Targets", "target | runs on | precisions | extras | verified | note", rows)


def rule_table() -> str:
    """Return the page of the rules of ``bakit check``."""
    mark = {"error": "", "warning": " (warning)"}
    rows = [(f"`{name}`{mark[it.severity]}", it.text, it.remedy) for name, it in RULES.items()]
    return table("Rules of `bakit check`", "rule | requirement | remedy", rows)


PAGES = {"commands.md": commands, "targets.md": target_table, "rules.md": rule_table}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (Path(__file__).parent / file).write_text(page(), "utf-8")
