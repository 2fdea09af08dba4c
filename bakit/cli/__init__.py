"""The command line; a command is imported when it is used."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bakit import __version__
from bakit.cli.interrupts import interrupts
from bakit.cli.tables import LEVELS, VERBOSE, echo, keep_streams, safe
from bakit.errors import BakitError, MissingBackendError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTIONS = {
    "Start": {
        "demo": "Run export, predict, bench and gate on generated radiographs.",
        "doctor": "List what each target can do here, and how to mend each gap.",
        "localize": "Find the hand in radiographs.",
        "node": "Run a DICOM node: radiographs in, structured reports out.",
        "phantoms": "Generate labelled radiographs.",
        "predict": "Predict the bone age from radiographs.",
        "score": "Predict the bone age from many radiographs, into a table.",
    },
    "Ship": {
        "bench": "Measure latency and accuracy drift of bundles.",
        "check": "Find what TensorRT or a Jetson would reject in an ONNX model.",
        "evidence": "Print what boards measured with a kit, as a table.",
        "export": "Turn a float checkpoint into bundles for targets.",
        "report": "Show a bench report as tables, HTML or Markdown.",
        "sign": "Sign a bundle.",
        "targets": "List the deployment targets.",
        "verify": "Check a bundle's files and its golden outputs on this machine.",
    },
    "CI": {"gate": "Fail when a bench report exceeds its limits."},
    "Train": {
        "ablate": "Train the rows of the paper's Table 2 and compare them.",
        "calibrate": "Compute INT8 activation ranges from training images.",
        "distill": "Train the student, a small hand localizer.",
        "evaluate": "Measure a model's errors on labelled radiographs.",
        "quality": "Fit the image-quality limits: accept, review or reject.",
        "stress": "Measure errors under rotation, inversion, blur and other changes.",
        "train": "Train a float checkpoint on a labelled folder.",
    },
    "Inspect": {
        "describe": "Summarize a labelled dataset and list its errors.",
        "dicom": "Print what bakit understands of a DICOM header.",
        "inspect": "Print the metadata of a bundle or checkpoint as JSON.",
    },
}
"""One line a command, so that --help imports none of them."""

COMMANDS = {name: text for section in SECTIONS.values() for name, text in section.items()}

HOMES = {
    "ablate": "train",
    "check": "verify",
    "dicom": "describe",
    "distill": "train",
    "evidence": "report",
    "inspect": "describe",
    "localize": "predict",
    "phantoms": "demo",
    "quality": "calibrate",
    "sign": "verify",
    "targets": "doctor",
}
"""Modules of the commands that have none of their own name."""


# The extra that installs each library. The libraries of a target are listed by the target.
_EXTRAS = {
    "fsspec": "score",
    "jinja2": "report",
    "highdicom": "node",
    "lightning": "train",
    "onnx": "export",
    "onnxruntime": "export",
    "pydicom": "node",
    "pynetdicom": "node",
    "pyarrow": "score",
    "ray": "ray",
    "safetensors": "export",
    "torch": "train",
    "torchvision": "train",
}


_RANGE = re.compile(
    r"is not in the range (?:(?P<least>[\d.]+)<=)?x(?:>=(?P<from>\d+))?(?:<=(?P<most>\d+))?"
)
"""click's words for a number outside of its range."""


class _LazyGroup(click.Group):
    """Lists the commands without importing them; prints every error in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"bakit.cli.{HOMES.get(cmd_name, cmd_name)}")
        function = f"{cmd_name}_command" if cmd_name in HOMES else "command"
        command: click.Command = getattr(module, function)
        if LEVELS[0] not in command.params:
            command.params += LEVELS
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            ctx.fail(unknown("command", args[0], COMMANDS))
        name, command, rest = super().resolve_command(ctx, args)
        if command and not ctx.resilient_parsing:
            _check_options(click.Context(command, ctx, name), rest)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<9}", text) for name, text in commands.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _one_line(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's own type
        keep_streams()
        with interrupts() as received, _one_line(ctx):
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                echo("bakit: interrupted", err=True)
                sys.exit(128 + (received or [signal.SIGINT])[0])
            except click.exceptions.Exit as end:
                if end.exit_code == 128 + signal.SIGINT and received:  # ended with a result
                    ctx.exit(128 + received[0])
                raise


def _check_options(ctx: click.Context, args: list[str]) -> None:
    """Raise a ``UsageError`` for an option that is unknown, has no value, or is given twice."""
    try:
        _, _, given = ctx.command.make_parser(ctx).parse_args(list(args))
    except click.UsageError as error:
        error.ctx = ctx
        raise
    for option in given:
        takes_one = isinstance(option, click.Option) and not (option.multiple or option.is_flag)
        if takes_one and given.count(option) > 1:
            ctx.fail(f"{option.opts[0]} is given twice; give it once")


@contextmanager
def _one_line(ctx: click.Context) -> Iterator[None]:
    """Print an error in one line on stderr and exit with its status."""
    try:
        yield
    except (BakitError, ModuleNotFoundError, click.UsageError, BrokenPipeError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of stdout has ended, as after "| head"
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # for Python's last flush
            ctx.exit(1)
        status, text = _described(ctx, error)
        if ctx.meta.get(VERBOSE):
            traceback.print_exc()
        echo(f"bakit: {safe(text)}", err=True)
        ctx.exit(status)


def _described(ctx: click.Context, error: Exception) -> tuple[int, str]:
    """Return the exit status and the line of an error; raise those that are bugs."""
    if isinstance(error, BakitError):
        return error.exit_status, str(error)
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise error  # a bug: no install helps
        missing = MissingBackendError(f"bakit {ctx.invoked_subcommand}", extra)
        return missing.exit_status, str(missing)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        if isinstance(error, (FileExistsError, NotADirectoryError)):  # of a folder to write into
            return 2, f"{where}a file, not a folder"
        return 2, f"{where}{error.strerror or error}"
    assert isinstance(error, click.UsageError)
    if type(error).__name__ == "NoArgsIsHelpError":
        raise error
    text = " ".join(safe(error.format_message()).split()).removeprefix("Invalid value for ")
    text = re.sub(r"^'\[?[A-Z]+\]?(\.\.\.)?': ", "", text)  # an argument; the message has its value
    text = re.sub(r"'(--?[a-z][\w-]*)'( / '-\w+')?", r"\1", text)
    text = _RANGE.sub(_possible, text).replace("a valid integer range", "a whole number")
    text = re.sub(r"a valid (integer|float range)", "a number", text)
    if isinstance(error, click.NoSuchOption) and error.ctx:
        named = [name for option in error.ctx.command.get_params(error.ctx) for name in option.opts]
        text = unknown("option", error.option_name, named).partition("; use ")[0]
    text = (text[:1].lower() + text[1:]).rstrip(".")
    path = error.ctx.command_path if error.ctx else "bakit"
    return 2, text if text.endswith("?") else f"{text}; see: {path} -h"


def _possible(found: re.Match[str]) -> str:
    """Return click's range, such as ``0<=x<=9``, in words."""
    least, most = found["least"] or found["from"], found["most"]
    use = f"{least} to {most}" if least and most else f"{least} or more"
    return f"is not possible; use {use}"


@click.group(
    "bakit",
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    params=LEVELS,
)
@click.version_option(__version__, prog_name="bakit")
def main() -> None:
    """Ship a bone-age model to phones, Jetsons and CPUs, and prove that it lost no accuracy.

    \b
    Example:
      bakit export --target onnx
      bakit predict hand.png --sex F
      bakit bench --data radiographs/

    \b
    Completion in bash (zsh_source in zsh):
      eval "$(_BAKIT_COMPLETE=bash_source bakit)"
    """
