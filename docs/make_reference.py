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

DOCS = Path(__file__).parent
MADE = "Made by `python docs/make_reference.py`."


def commands() -> str:
    """Return the page of all commands."""
    context = click.Context(main, info_name="bakit")
    parts = [f"# Commands\n\n{MADE} `bakit COMMAND --help` prints the same.\n"]
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        pieces = command.collect_usage_pieces(click.Context(command, context, info_name=name))
        parts.append(f"## bakit {name}\n\n```\nbakit {' '.join([name, *pieces])}\n```\n")
        parts.append(prose(inspect.cleandoc(command.help or "")))
        options = [param for param in command.params if isinstance(param, click.Option)]
        parts.append("\n".join(option(param) for param in options if not param.hidden) + "\n")
    return "\n".join(parts)


def prose(text: str) -> str:
    """Return a help text as Markdown: a block that click does not wrap becomes code."""
    block = re.compile(r"\x08\n(?:Examples?:\n)?(.*?)(?=\n\n|\Z)", re.DOTALL)
    return block.sub(lambda found: f"```\n{inspect.cleandoc(found[1])}\n```", text) + "\n"


def option(param: click.Option) -> str:
    """Return an option with its values, meaning and default."""
    names = ", ".join(param.opts) + "".join(f" / {name}" for name in param.secondary_opts)
    kind = param.type.name.removesuffix(" range").upper()
    if isinstance(param.type, click.Choice):
        kind = "|".join(map(str, param.type.choices))
    values = "" if param.is_flag or param.count else f" {param.metavar or kind}"
    about = " ".join((param.help or "").split())
    shown = param.show_default and not param.is_flag and param.default is not None
    default = f" Default: `{param.default}`." if shown else ""
    return f"* `{names}{values}`: {about}{' Required.' if param.required else ''}{default}"


def targets_page() -> str:
    """Return the page of all targets."""
    page = f"# Targets\n\n{MADE} `bakit doctor` lists what each needs on this machine.\n\n"
    page += "| target | runs on | precisions | extras: export; run | verified | note |\n"
    page += "| --- | --- | --- | --- | --- | --- |\n"
    for name, target in targets().items():
        precisions = ", ".join(sorted(item.value for item in target.precisions))
        extras = f"`{target.export_extra}`; `{target.extra}`"
        cells = (f"`{name}`", target.title, precisions, extras, target.verified, target.note)
        page += f"| {' | '.join(cells)} |\n"
    return page


def rules() -> str:
    """Return the page of the rules of ``bakit check``."""
    page = (
        f"# Rules of `bakit check`\n\n{MADE} [`bakit check`](check.md) describes the command.\n\n"
    )
    page += "| rule | requirement | remedy |\n| --- | --- | --- |\n"
    for name, rule in RULES.items():
        mark = " (warning)" if rule.severity == "warning" else ""
        page += f"| `{name}`{mark} | {rule.text} | {rule.remedy} |\n"
    return page


PAGES = {"commands.md": commands, "targets.md": targets_page, "rules.md": rules}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (DOCS / file).write_text(page(), "utf-8")
