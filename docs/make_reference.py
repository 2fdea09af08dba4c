"""Write the generated pages: commands, targets, rules, API, and parts of two other pages.

    python docs/make_reference.py

``docs/evidence/*.json.gz`` are files that ``agent.py evidence`` wrote; one that is not of a board
has a line in ``PLACES``. ``tests/test_docs.py`` fails when a page differs from the output of this
script.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from enum import Enum
from pathlib import Path

import click
import msgspec

from bakit.agent import PROVIDERS
from bakit.bench.device.evidence import read_evidence
from bakit.bench.device.evidence import rows as evidence_rows
from bakit.bench.device.evidence import table as evidence_table
from bakit.cli import main
from bakit.export.check import RULES
from bakit.targets import targets

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MADE = "Made by `python docs/make_reference.py`."
BLOCK = re.compile(r"\x08\n(?:Examples?:\n)?(.*?)(?=\n\n|\Z)", re.DOTALL)
"""A block that click does not wrap."""
MODULES = {
    "bakit": "For apps.",
    "bakit.bench": "Measuring bundles, and gating the measurements.",
    "bakit.export": "From a checkpoint to a bundle.",
}
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Examples|Note):$")
ITEM = re.compile(r"^(\*{0,2}[\w., ]+): (.*)$")
MAPPED = ("bench", "calib", "export")
"""Rooms that lie at the top of the checkout."""
PLACES = {
    "x86-64": "A server without a GPU, two cores of an AMD EPYC, busy with other work:",
    "arm-emulated": "An emulated Arm machine ([Arm](arm.md)); its times mean nothing:",
    "stand-in-10.3": (
        "The stand-in of TensorRT 10.3, which computes in ONNX Runtime; its layers and times mean "
        "nothing:"
    ),
}
"""What ran a file that is no board's, by the file's name."""
ABOUT_PROVIDERS = """
## Providers of ONNX Runtime

`onnx` bundles run on the CPU, or with another provider: `Runtime(bundle, provider="cuda")`,
`--provider cuda` of `bakit predict`, `verify` and `bench`, also with `--host`, and `provider` in
a fleet's file. ONNX Runtime's own names are taken, too. NNAPI is not: Android 15 deprecated it.

* The CPU runs the nodes that a provider does not take. `provider` of a prediction counts them, and
  the report has the share of the multiply-adds of each; `bakit gate --require-provider cuda` fails
  if another unit ran a part.
* A provider that does not start is an error; ONNX Runtime alone would use the CPU.
* A provider that compiles its nodes does not tell their number format. It is an *unknown
  format*, and counts as no INT8.
* Drift is measured from the bundle of target `torch`, if it is there; that one stays on the CPU.
* CUDA runs without TF32. TensorRT builds an engine at each start, and may use TF32: prefer target
  `tensorrt`.
* Nothing is cached, and nothing is written into a bundle.

"""
VERIFIED = {
    "azure": "in every test run: it takes no node",
    "cpu": "in every test run",
    "cuda": "not yet run; without its libraries, 1.31.1 is refused and the first one named",
    "openvino": "by hand, 1.24.1 on x86-64 Linux: all nodes; `bakit verify` passes, FP32 and INT8",
    "qnn": "not yet run; 2.7.0 is registered as a plug-in, and refused on x86-64 without an NPU",
    "tensorrt": "as `cuda`",
    "webgpu": "not yet run; 0.4.0 is registered as a plug-in, and refused without a GPU",
}
"""How providers were tried, by their short names."""


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
    return f"# {title}\n\n{MADE}\n\n{table_lines(head, rows)}"


def table_lines(head: str, rows: list[tuple[str, ...]]) -> str:
    """Return a table alone."""
    lines = [f"| {head} |", "| --- " * (head.count("|") + 1) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def target_table() -> str:
    """Return the page of all targets."""
    rows = []
    for name, it in targets().items():
        precisions = ", ".join(sorted(item.value for item in it.precisions))
        extras = f"`{it.export_extra}`; `{it.extra}`"
        rows.append((f"`{name}`", it.title, precisions, extras, it.verified, it.note))
    page = table("Targets", "target | runs on | precisions | extras | verified | note", rows)
    rows = [
        (f"`{name}`", package, VERIFIED.get(name, "not yet run"))
        for full, package in sorted(PROVIDERS.items())
        for name in [full.removesuffix("ExecutionProvider").lower()]
    ]
    return page + ABOUT_PROVIDERS + table_lines("provider | package | verified", rows)


def rule_table() -> str:
    """Return the page of the rules of ``bakit check``."""
    mark = {"error": "", "warning": " (warning)"}
    rows = [(f"`{name}`{mark[it.severity]}", it.text, it.remedy) for name, it in RULES.items()]
    return table("Rules of `bakit check`", "rule | requirement | remedy", rows)


def api() -> str:
    """Return the page of the public API, from its docstrings."""
    about = "[Python and services](embedding.md) has examples, and says which names are stable."
    parts = [f"# API reference\n\n{MADE} {about}\n"]
    for module, about in MODULES.items():
        parts.append(f"## `{module}`\n\n{about}\n")
        loaded = importlib.import_module(module)
        parts += [entry(module, name, getattr(loaded, name)) for name in sorted(loaded.__all__)]
    return "\n".join(parts)


def entry(module: str, name: str, value: object) -> str:
    """Return a class or a function with its docstring."""
    if inspect.isclass(value):
        lines = [f"### {name}", "", fenced(f"class {name}{bases(value)}"), rendered(value)]
        for method, member in sorted(vars(value).items()):
            if not method.startswith("_") and is_documented(member):
                function = getattr(member, "__func__", getattr(member, "fget", member))
                lines += [f"#### {name}.{method}", ""]
                if not isinstance(member, property):
                    lines.append(fenced(f"{method}{signature(function)}"))
                lines.append(rendered(function))
        return "\n".join(lines)
    return "\n".join([f"### {name}", "", fenced(f"{name}{signature(value)}"), rendered(value)])


def is_documented(member: object) -> bool:
    """Return whether a class's own member is a method or property with a docstring."""
    function = getattr(member, "__func__", getattr(member, "fget", member))
    return inspect.isfunction(function) and bool(function.__doc__)


def bases(kind: type) -> str:
    """Return an error's parent, or the arguments of a class."""
    if issubclass(kind, Exception):
        return f"({kind.__mro__[1].__name__})"
    if issubclass(kind, (msgspec.Struct, tuple, Enum)) or dataclasses.is_dataclass(kind):
        return ""
    return signature(kind)


def signature(value: object) -> str:
    """Return a call's signature without the quotes of postponed annotations."""
    try:
        return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(value)))
    except (TypeError, ValueError):
        return ""


def fenced(code: str) -> str:
    """Return a line of Python."""
    return f"```python\n{code}\n```\n"


def rendered(value: object) -> str:
    """Return a docstring as Markdown: sections become lists."""
    lines, listing = [], False
    for line in inspect.getdoc(value).splitlines():
        section = SECTION.match(line)
        if section:
            listing = section[1] != "Examples"
            lines += [f"**{section[1]}**", ""]
        elif listing and line.startswith("    ") and not line.startswith("     "):
            item = ITEM.match(line.strip())
            lines.append(f"* `{item[1]}`: {item[2]}" if item else f"* {line.strip()}")
        elif listing and line.strip():
            lines[-1] += f" {line.strip()}" if line.startswith("     ") else f"\n{line}"
        else:
            listing = listing and not line.strip()
            lines.append(line)
    return "\n".join(lines).replace("``", "`") + "\n"


def floors() -> list[list[str]]:
    """Return the rooms of the contract "Rooms, from the top floor down", floor by floor."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")  # Python 3.10 has no reader of TOML
    contract = text.split('name = "Rooms, from the top floor down"')[1]
    body = re.search(r"^layers = \[\n(.*?)^\]", contract, re.DOTALL | re.MULTILINE)
    assert body
    return [re.findall(r"\w+", layer) for layer in re.findall(r'"(.+?)"', body[1])]


def home(room: str) -> Path:
    """Return the module of a room, or its package's ``__init__``."""
    folder = (ROOT if room.split("/")[0] in MAPPED else ROOT / "bakit") / room
    module = folder.with_suffix(".py")
    return module if module.is_file() else folder / "__init__.py"


def about(room: str) -> str:
    """Return the first line of a room's docstring."""
    docstring = ast.get_docstring(ast.parse(home(room).read_text("utf-8")))
    return (docstring or "").split("\n")[0].replace("``", "").rstrip(".")


def architecture() -> str:
    """Return the page with the current rooms, the top floor first."""
    lines = []
    for floor in floors():
        for place, room in enumerate(floor):
            marks = "┌" + "│" * (len(floor) - 2) + "└"
            mark = f"{marks[place]} " if len(floor) > 1 else "  "
            lines.append(f"{mark}{room:<14}{about(room)}")
    text = "\n".join(lines)
    return between("architecture.md", "rooms", f"```\n{text}\n```")


def evidence() -> str:
    """Return the page of TensorRT with the tables of the evidence files."""
    files = {path.name[:-8]: path for path in sorted(DOCS.glob("evidence/*.json.gz"))}
    made = {name: evidence_rows(read_evidence(path)) for name, path in files.items()}
    boards = [row for name, rows in made.items() if name not in PLACES for row in rows]
    tables = [evidence_table(boards)]
    tables += [f"{text}\n\n{evidence_table(made[name])}" for name, text in PLACES.items()]
    return between("tensorrt.md", "evidence", "\n\n".join(tables))


def between(page: str, name: str, text: str) -> str:
    """Return a page with a text between its marks, ``<!-- NAME: `` and ``<!-- end of NAME -->``."""
    marks = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    return marks.sub(lambda m: f"{m[1]}\n{text}\n\n{m[2]}", (DOCS / page).read_text("utf-8"))


PAGES = {
    "api.md": api,
    "architecture.md": architecture,
    "commands.md": commands,
    "rules.md": rule_table,
    "targets.md": target_table,
    "tensorrt.md": evidence,
}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (DOCS / file).write_text(page(), "utf-8")
