"""The command line; a command is imported when it is used."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bakit import __version__
from bakit.cli.tables import echo, safe
from bakit.errors import BakitError, MissingBackendError

if TYPE_CHECKING:
    from collections.abc import Iterator

# One line a command, so that --help imports none of them.
COMMANDS = {
    "ablate": "Train the rows of the paper's Table 2 and compare them.",
    "bench": "Measure latency and accuracy drift of bundles.",
    "calibrate": "Compute INT8 activation ranges from training images.",
    "check": "Find what TensorRT or a Jetson would reject in an ONNX model.",
    "demo": "Run export, predict, bench and gate on generated radiographs.",
    "describe": "Summarize a labelled dataset and list its errors.",
    "dicom": "Print what bakit understands of a DICOM header.",
    "distill": "Train the student, a small hand localizer.",
    "doctor": "List what is installed and what each target still needs.",
    "evaluate": "Measure a model's errors on labelled radiographs.",
    "evidence": "Print what boards measured with a kit, as a table.",
    "export": "Turn a float checkpoint into a bundle for a target.",
    "gate": "Fail when a bench report exceeds its limits.",
    "inspect": "Print the metadata of a bundle or checkpoint as JSON.",
    "localize": "Find the hand in radiographs.",
    "node": "Run a DICOM node: radiographs in, structured reports out.",
    "phantoms": "Generate labelled radiographs.",
    "predict": "Predict the bone age from one radiograph.",
    "quality": "Fit the image-quality limits: accept, review or reject.",
    "report": "Show a bench report as tables, HTML or Markdown.",
    "sign": "Sign a bundle.",
    "stress": "Measure errors under rotation, inversion, blur and other changes.",
    "targets": "List the deployment targets.",
    "train": "Train a float checkpoint on a labelled folder.",
    "verify": "Check a bundle's files and its golden outputs on this machine.",
}


# The extra that installs each library. The libraries of a target are listed by the target.
_EXTRAS = {
    "jinja2": "report",
    "highdicom": "node",
    "lightning": "train",
    "onnx": "export",
    "onnxruntime": "export",
    "pydicom": "node",
    "pynetdicom": "node",
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
        with _interrupts() as received:
            try:
                return self._invoke(ctx)
            except KeyboardInterrupt:
                echo("bakit: interrupted", err=True)
                sys.exit(128 + (received or [signal.SIGINT])[0])
            except click.exceptions.Exit as end:
                if end.exit_code == 128 + signal.SIGINT and received:  # ended with a result
                    ctx.exit(128 + received[0])
                raise

    def _invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's own type
        try:
            return super().invoke(ctx)
        except BakitError as error:
            echo(f"bakit: {error}", err=True)
            ctx.exit(error.exit_status)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise  # a bug: no install helps
            missing = MissingBackendError(f"bakit {ctx.invoked_subcommand}", extra)
            echo(f"bakit: {missing}", err=True)
            ctx.exit(missing.exit_status)
        except click.UsageError as error:
            raise click.UsageError(safe(error.format_message()), error.ctx) from error
        except BrokenPipeError:  # the reader of stdout has ended, as after "| head": nothing to say
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # for Python's last flush
            ctx.exit(1)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            echo(f"bakit: {where}{error.strerror or error}", err=True)
            ctx.exit(2)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Treat SIGTERM and SIGHUP as Ctrl-C, so that temporary files go and results are kept.

    Yields:
        The signals that were received.
    """
    received: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    names = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    in_main = threading.current_thread() is threading.main_thread()  # Python allows it only there
    replaced = {
        name: handler
        for name in names
        # nohup ignores SIGHUP on purpose.
        if in_main and name and (handler := signal.getsignal(name)) == signal.SIG_DFL
    }
    for name in replaced:
        signal.signal(name, interrupt)
    try:
        yield received
    finally:
        for name, handler in replaced.items():
            signal.signal(name, handler)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bakit")
def main() -> None:
    """Ship a bone-age model to phones, Jetsons and CPUs, and prove that it lost no accuracy.

    \b
    Example:
      bakit export --target onnx --int8
      bakit predict hand.png --sex F
      bakit bench --data radiographs/
    """
