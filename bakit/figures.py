"""Plots in one style, drawn without a display."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bakit.errors import InputError, MissingBackendError
from bakit.files import write_file
from bakit.image.read import decode
from bakit.image.resize import thumbnail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "font.size": 9,
    "grid.alpha": 0.3,
}

THUMBNAIL = 300
"""Longest side of a drawn image, in pixels; many originals would take gigabytes."""

MALE, FEMALE, ALL = "#2b6cb0", "#c05621", "#4a5568"
"""Colours of the sexes and of both; distinct for colour-blind readers."""


def save_figures(pictures: Mapping[str, Callable[[], Figure]], out: Path) -> list[Path]:
    """Draw all figures, then write them into a folder; return the files.

    ``pictures`` are functions that draw a figure, by file name.

    Raises:
        MissingBackendError: If matplotlib is not installed.
    """
    new_figure()
    drawn: dict[str, bytes] = {}
    # The style applies when axes are made.
    with _style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name in a script the font does not have
        for name, picture in pictures.items():
            buffer = io.BytesIO()
            # Without metadata the same numbers give the same file.
            picture().savefig(buffer, format="png", metadata={"Software": None})
            drawn[name] = buffer.getvalue()
    for name, data in drawn.items():
        write_file(out / name, data)
    return [out / name for name in drawn]


def new_figure(width: float = 6.0, height: float = 4.0) -> Figure:
    """Return an empty figure in bakit's style; width and height in inches.

    Draw on it through ``figure.subplots()``, so that matplotlib's global state does not change.

    Raises:
        MissingBackendError: If matplotlib is not installed.
        InputError: If matplotlib's settings file in the working folder is not UTF-8.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # not of a home without its cache
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

        with _style():
            return Figure(figsize=(width, height))
    except ModuleNotFoundError as error:
        need = "drawing plots"
        raise MissingBackendError(need, "report") from error
    except UnicodeDecodeError as error:
        message = f"matplotlibrc: not UTF-8 ({error}); remove it from the working folder or repair"
        raise InputError(message) from error


def new_axes(width: float = 6.0, height: float = 4.0) -> tuple[Figure, Axes]:
    """Return a figure of ``new_figure`` with one plot; raises as it does."""
    figure = new_figure(width, height)
    return figure, figure.subplots()


@contextmanager
def _style() -> Iterator[None]:
    """Apply bakit's style alone: a matplotlibrc in the working folder could start LaTeX."""
    import matplotlib as mpl  # noqa: PLC0415

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def legend_below(figure: Figure, axes: Axes) -> None:
    """Place the legend below the axes."""
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )


def picture_grid(
    pictures: Sequence[tuple[Path, str]], columns: int, row_height: float, head: float
) -> tuple[Figure, list[Axes]]:
    """Draw image files with captions in a grid.

    Args:
        pictures: Files and captions, at least one.
        columns: Images per row.
        row_height: Height of a row, in inches.
        head: Height above the first row, in inches.

    Returns:
        The figure and the axes of each image, in image pixels.

    Raises:
        ImageError: If an image cannot be used.
    """
    rows = -(-len(pictures) // columns)
    figure = new_figure(8.0, head + row_height * rows)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    for axes, (path, caption) in zip(grid, pictures, strict=False):
        grey = decode(path)
        edges = (0, grey.shape[1], grey.shape[0], 0)
        axes.imshow(thumbnail(grey, THUMBNAIL), cmap="gray", vmin=0, vmax=1, extent=edges)
        axes.set_title(caption, fontsize=8, parse_math=False)
    return figure, grid[: len(pictures)]


def short_text(text: str, length: int = 20) -> str:
    """Shorten a name to one line of at most ``length`` characters."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= length else f"{text[: length - 5]}...{text[-2:]}"
