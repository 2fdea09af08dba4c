"""Every command of bakit in a page is one that the command line parses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from bakit.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES = [page for page in PAGES if page.name != "commands.md"]  # made from the commands
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
SHELL = {"", "bash", "console", "sh", "shell", "text"}
SPAN = re.compile(r"`((?:[A-Z_]+=\S+ )*bakit\s[^`]+)`")
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*")
END = {"&&", "||", ";", "|", ">", "2>"}


def commands(text):
    """Yield the commands of a page: the arguments, and whether they are complete."""
    for language, block in FENCE.findall(text):
        if language in SHELL:
            for line in block.replace("\\\n", " ").splitlines():
                if re.search(r"(^|[;&|] *)(\$ )?([A-Z_]+=\S+ )*bakit ", line.strip()):
                    yield from ((words, True) for words in split(line))
    for span in SPAN.findall(FENCE.sub("", text)):
        yield from ((words, False) for words in split(span))


def split(line):
    """Yield the arguments of each call of bakit in a line of a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|>")
    lexer.whitespace_split = True
    call = []
    for word in [*lexer, ";"]:
        if word not in END:
            call.append(word)
            continue
        while call and (call[0] == "$" or re.fullmatch(r"[A-Z_]+=\S*", call[0])):
            call.pop(0)
        if call[:1] == ["bakit"] and call[1:]:
            yield call[1:]
        call = []


def parse(words, *, complete=True):
    """Parse a command as the command line does; paths need not exist."""
    name, *rest = words
    if name.startswith("-"):
        main.make_parser(click.Context(main)).parse_args([name, *rest])
        return
    command = main.get_command(click.Context(main), name)
    if command is None:
        message = f"no such command: {name}"
        raise click.UsageError(message)
    context = click.Context(command, info_name=name)
    try:
        given, left, _ = command.make_parser(context).parse_args(rest)
    except click.BadOptionUsage:
        if complete:
            raise
        given, left, _ = command.make_parser(context).parse_args([*rest, "VALUE"])
    if left:
        message = f"unexpected arguments: {left}"
        raise click.UsageError(message)
    for param in command.params:
        value = given.get(param.name)
        values = value if isinstance(value, (list, tuple)) else [value]
        values = [item for item in values if isinstance(item, str)]
        if complete and param.required and not values:
            raise click.MissingParameter(ctx=context, param=param)
        for item in values:
            is_word = isinstance(param.type, click.Choice) or param.type.name == "sex"
            if PLACEHOLDER.fullmatch(item) and not is_word:
                continue
            if not isinstance(param.type, (click.Path, click.File)):
                param.type.convert(item, param, context)


def refusal(words, *, complete):
    """Return why the command line refuses a command; None if it does not."""
    try:
        parse(words, complete=complete)
    except click.UsageError as error:
        return f"bakit {shlex.join(words)}: {error.format_message()}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_command_line_parses_every_command_of_a_page(page):
    for words, complete in commands(page.read_text("utf-8")):
        assert refusal(words, complete=complete) is None


def test_the_commands_are_found():
    text = "```\n$ A=1 bakit x --y \\\n    'a b' | bakit z   # c\nls bakit\n```\nand `bakit\nw`\n"
    assert list(commands(text)) == [(["x", "--y", "a b"], True), (["z"], True), (["w"], False)]
    found = {words[0] for page in PAGES for words, _ in commands(page.read_text("utf-8"))}
    assert found >= {
        "bench",
        "calibrate",
        "check",
        "evaluate",
        "export",
        "gate",
        "predict",
        "train",
    }


@pytest.mark.parametrize(
    "line",
    [
        "gat report.json",
        "gate report.json --max-drift 0.25",
        "gate report.json second.json",
        "gate report.json --max-drift-months much",
        "predict hand.png --sex Q",
        "export --target onxx",
        "export",
        "bench --queries",
        "--no-such-option",
    ],
)
def test_a_wrong_command_is_noticed(line):
    with pytest.raises(click.UsageError):
        parse(shlex.split(line))
