"""Types of options, options that several commands share, and the default folder of bundles."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.shell_completion import CompletionItem

from bakit.cli.tables import hint
from bakit.errors import InputError, MissingBackendError, UnsupportedTargetError, unknown
from bakit.files import unwritable
from bakit.targets import get_target, targets
from bakit.types import BoxRule, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from bakit.score.engine import Readers

    Command = Callable[..., Any]

BUNDLES = "bakit-bundles"
"""Output folder of ``bakit export``, from which other commands read bundles."""

MOST_THREADS = 1024
"""Threads, or processes; a library fails on huge numbers without naming the option."""


class _Path(click.Path):
    """A path; an empty one, as of a variable that is not set, is not the working folder.

    With ``writes``, its folder, or itself if it is no file, is checked before the command starts.
    """

    def __init__(self, *, writes: bool = False, **how: Any) -> None:  # noqa: ANN401  # click's own
        super().__init__(path_type=Path, **how)
        self.writes = writes

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ANN401  # click's own
        """Return the path."""
        if value == "":
            self.fail("the path is empty; name a file or a folder", param, ctx)
        path: Any = super().convert(value, param, ctx)
        special = path.exists() and not (path.is_file() or path.is_dir())  # a pipe or a device
        folder = path if self.dir_okay else path.parent
        if self.writes and not special and (home := unwritable(folder)):
            self.fail(f"{home}: not a writable folder", param, ctx)
        return path


PATH = _Path()
OUT_FOLDER = _Path(file_okay=False, writes=True)
OUT_FILE = _Path(dir_okay=False, writes=True)
OUT_FILE_OR_DASH = _Path(dir_okay=False, allow_dash=True, writes=True)


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic in new clicks only
    """A value that ``parse`` returns for a text, or for which it raises an ``InputError``."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name, self.parse = name, parse

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return the value; it is kept if it was parsed before."""
        try:
            return self.parse(value) if isinstance(value, str) else value
        except InputError as error:
            self.fail(str(error), param, ctx)


class Names(Parsed):
    """One of some names, which shells complete; a typo gets a suggestion.

    With ``several``, it takes several, separated by commas, and returns a tuple.
    """

    def __init__(
        self, name: str, known: Callable[[], Iterable[str]], *, several: bool = False
    ) -> None:
        super().__init__(name, self._names)
        self.known, self.several = known, several

    def _names(self, text: str) -> str | tuple[str, ...]:
        words = [word.strip() for word in text.split(",")] if self.several else [text]
        for word in words:
            if word not in self.known():
                raise InputError(unknown(self.name, word, self.known()))
        return tuple(dict.fromkeys(words)) if self.several else text

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that start as the last word does."""
        del ctx, param
        before, comma, word = incomplete.rpartition("," if self.several else "\0")
        return [CompletionItem(before + comma + n) for n in self.known() if n.startswith(word)]


class Number(click.FloatRange):
    """A finite number in a range."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)  # type: ignore[arg-type]  # it parses
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def _sex(text: str) -> str:
    from bakit.prediction import read_sex

    return read_sex(text)


SEX = Parsed("sex", _sex)
TARGETS = Names("target", targets, several=True)
PRECISIONS = Names("precision", lambda: [item.value for item in Precision], several=True)


def several(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds options in their order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


bundle_option = click.option(
    "--bundle",
    type=PATH,
    help=f"Bundle to run. Default: the only one in {BUNDLES}/, or its only float32 ONNX bundle.",
)
public_key_option = click.option(
    "--public-key",
    metavar="FILE",
    type=PATH,
    help="Refuse bundles that the owner of this key did not sign (bakit sign).",
)
checkpoint_option = click.option(
    "--checkpoint", metavar="FILE", type=PATH, help="Float checkpoint. Default: the shipped one."
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), help="Threads of the backend."
)


provider_option = click.option(
    "--provider",
    metavar="NAME",
    help="Provider of ONNX Runtime, such as cuda, qnn or xnnpack. The CPU runs what it does not "
    "take.  [default: cpu]",
)
workers_option = click.option(
    "--workers", type=click.IntRange(1, MOST_THREADS), help="Processes. Default: one per CPU."
)

engine_options = several(
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        help="Where films are read: on this machine, or on a Ray cluster that is running.",
    ),
    click.option(
        "--address", metavar="HOST:PORT", help="The Ray cluster. Default: this machine's."
    ),
)


def open_readers(engine: str, address: str | None) -> Callable[..., Readers]:
    """Return what opens the readers of an engine (``bakit.score.engine``)."""
    if engine == "ray":
        from bakit.score.ray_engine import RayReaders

        return partial(RayReaders, address=address)
    if address is not None:
        message = "--address needs --engine ray"
        raise click.UsageError(message)
    from bakit.score.engine import LocalReaders

    return LocalReaders


def json_option(text: str = "Print one JSON object.") -> Callable[[Command], Command]:
    """Return the option ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help=text)


def plots_option(files: str) -> Callable[[Command], Command]:
    """Return the option ``--plots``, with the names of the files in its help.

    matplotlib is looked for before the command starts its work.
    """
    text = f"Draw {files} in DIR."
    return click.option("--plots", metavar="DIR", type=OUT_FOLDER, callback=_plots, help=text)


def _plots(_context: click.Context, _option: click.Parameter, folder: Path | None) -> Path | None:
    if folder is not None:
        from bakit.figures import new_figure

        new_figure()
    return folder


def limit_option(default: int | None = None, text: str = "") -> Callable[[Command], Command]:
    """Return the option ``--limit``, the maximum number of images."""
    help_text = f"Use this many images, spread evenly over labels.csv{text}."
    return click.option("--limit", type=click.IntRange(1), default=default, help=help_text)


model_options = several(
    checkpoint_option,
    click.option("--bundle", metavar="DIR", type=PATH, help="Bundle to test instead."),
    workers_option,
)
"""The model to test, and the number of processes."""

_LOCALIZER = {
    "steps": (click.IntRange(0, 1000), "SGD steps of the unrolled localizer."),
    "size": (click.IntRange(16, 1024), "Its image, in pixels."),
    "features": (click.IntRange(2, 512), "Its channels, the paper's p."),
    "labels": (click.IntRange(2, 512), "Its labels at most, the paper's q."),
    "similarity": (Number(0), "Its similarity loss: lambda."),
    "continuity": (Number(0), "Its continuity loss: mu."),
    "box_rule": (
        click.Choice(get_args(BoxRule)),
        "Its box: of the region most like a hand (score), or of the largest (literal, the paper).",
    ),
}

localizer_options = several(
    *[
        click.option(
            "--working-size" if name == "size" else f"--{name.replace('_', '-')}",
            name,
            type=kind,
            help=text,
        )
        for name, (kind, text) in _LOCALIZER.items()
    ]
)
"""The settings of the unrolled localizer, for commands that run or store it."""


def localizer_changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were given, by name."""
    return {name: options[name] for name in _LOCALIZER if options[name] is not None}


def all_bundles() -> list[Path]:
    """Return the bundles in the default folder, sorted by name.

    Raises:
        InputError: If there are none.
    """
    # A hidden folder is an export that is still being written.
    found = sorted(path.parent for path in Path(BUNDLES).glob("[!.]*/manifest.json"))
    if not found:
        message = f"no bundle in {BUNDLES}/; write one with: bakit export --target onnx"
        raise InputError(message)
    return found


def only_bundle() -> Path:
    """Return the one bundle in the default folder, or its only float32 ONNX one.

    Raises:
        InputError: If there are none, or several.
    """
    found = all_bundles()
    if len(found) > 1:
        floats = [path for path in found if path.name.endswith("-onnx-fp32")]
        if len(floats) != 1:
            names = ", ".join(path.name for path in found)
            message = f"{BUNDLES}/ holds several bundles; choose one with --bundle: {names}"
            raise InputError(message)
        found = floats
    return found[0]


def runnable_bundles(only: Collection[str] = (), *, here: bool = True) -> list[Path]:
    """Return the bundles in the default folder that can run; name the others.

    ``only`` are the targets to take, all if empty; ``here`` is false for a browser.

    Raises:
        InputError: If there are none.
    """
    from bakit.bundle import Bundle

    found, reasons = [], []
    for path in all_bundles():
        target = Bundle.read(path).manifest.target
        try:
            if here:
                get_target(target).check_runs()
        except (MissingBackendError, UnsupportedTargetError) as error:
            reasons.append(f"{path.name}: {error}")
            continue
        if not only or target in only:
            found.append(path)
        else:
            reasons.append(f"{path.name}: target {target!r} cannot be measured that way")
    for reason in reasons:
        hint(f"skipped: {reason}")
    if not found:
        message = f"no bundle in {BUNDLES}/ runs here; write one with: bakit export --target onnx"
        raise InputError(message)
    return found


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Return image files; a folder stands for all images below it, in the order of their names.

    Raises:
        InputError: If a folder holds no image.
    """
    from bakit.data.images import images_below

    return [image for path in paths for image in (images_below(path) if path.is_dir() else [path])]
