"""Write docs/api.md, the reference of the public API, from its docstrings.

    python docs/make_api.py

``tests/test_api_reference.py`` fails when the file differs from the output of this script.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from enum import Enum
from pathlib import Path

import msgspec

MODULES = {
    "bakit": "For apps.",
    "bakit.bench": "Measuring bundles, and gating the measurements.",
    "bakit.export": "From a checkpoint to a bundle.",
}
HEAD = """# API reference

Made from the docstrings by `python docs/make_api.py`. [Python and services](embedding.md)
has examples, and says which names are stable.
"""
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Examples|Note):$")
ITEM = re.compile(r"^(\*{0,2}[\w., ]+): (.*)$")


def reference() -> str:
    """Return the whole reference as Markdown."""
    parts = [HEAD]
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


def main() -> None:
    """Write the file."""
    (Path(__file__).parent / "api.md").write_text(reference(), "utf-8")


if __name__ == "__main__":
    main()
