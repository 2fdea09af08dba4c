"""The command line. Each command's module is imported when the command is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from bakit import __version__
from bakit.cli.tables import safe
from bakit.errors import BakitError, MissingBackendError

# One line a command, so that --help imports none of them.
COMMANDS = {
    "ablate": "Train the rows of the paper's Table 2 and compare.",
    "bench": "Measure latency and accuracy drift of bundles.",
    "calibrate": "Gather INT8 activation ranges on training images.",
    "check": "Judge ONNX graphs against where they are to run: TensorRT, Jetson.",
    "demo": "Run the whole main job on generated radiographs.",
    "describe": "Show what is in a labelled folder, and what is wrong with it.",
    "distill": "Train the student, a small network that finds the hand.",
    "doctor": "Show what is installed and what each target still needs.",
    "evaluate": "Measure a model's errors on labelled radiographs.",
    "export": "Turn a float checkpoint into a bundle for a target.",
    "gate": "Fail when a bench report exceeds its limits.",
    "inspect": "Show what is in a bundle or checkpoint.",
    "localize": "Find the hand in radiographs.",
    "phantoms": "Generate labelled radiographs.",
    "predict": "Read the bone age from one radiograph.",
    "quality": "Learn when a prediction is accepted, reviewed or rejected.",
    "report": "Show a bench report: tables, a page, Markdown.",
    "sign": "Sign a bundle.",
    "stress": "See what turning, lighting and blurring radiographs does to their ages.",
    "targets": "List the deployment targets.",
    "train": "Train a float checkpoint on a labelled folder.",
    "verify": "Check a bundle's files and its golden outputs here.",
}


# What commands import themselves; a target's own libraries are named by the target.
_EXTRAS = {
    "jinja2": "report",
    "lightning": "train",
    "onnx": "export",
    "onnxruntime": "export",
    "safetensors": "export",
    "torch": "train",
    "torchvision": "train",
}


class _LazyGroup(click.Group):
    """Lists the commands without importing them; turns bakit's errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"bakit.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's own type
        try:
            return super().invoke(ctx)
        except BakitError as error:
            lines = map(safe, str(error).split("\n"))
            click.echo("bakit: " + "\n".join(lines), err=True)
            ctx.exit(error.exit_status)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise  # a bug: no install helps
            missing = MissingBackendError(f"bakit {ctx.invoked_subcommand}", extra)
            click.echo(f"bakit: {missing}", err=True)
            ctx.exit(missing.exit_status)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            click.echo(safe(f"bakit: {where}{error.strerror or error}"), err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("bakit: interrupted", err=True)
            sys.exit(130)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bakit")
def main() -> None:
    """Ship a bone-age model to edge hardware, and prove that it lost no accuracy on the way.

    \b
    Example:
      bakit export --target onnx --int8
      bakit predict hand.png --sex F
      bakit bench --data radiographs/
    """
