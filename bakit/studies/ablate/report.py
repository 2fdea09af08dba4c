"""The files of an ablation: JSON, a Markdown table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bakit.errors import MissingBackendError
from bakit.figures import ALL, FEMALE, MALE, legend_below, new_axes, save_figures
from bakit.files import write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from bakit.studies.ablate.table import Ablation, Row

JSON, MARKDOWN, PLOT = "ablation.json", "ablation.md", "ablation.png"

COLUMNS = (
    *("Row", "Sex", "Pre-process", "Pre-trained"),
    *(f"Paper: {name}" for name in ("size [px]", "MAE, RSNA", "MAE, additional", "change")),
    *(f"Ours: {name}" for name in ("size [px]", "weights from", "test MAE", "validation MAE")),
    *(f"Ours: {name}" for name in ("change", "epochs (best)", "time")),
)
"""Columns of the Markdown table."""

EXPLANATION = (
    "All errors are mean absolute errors in months, with 95 % intervals over the images "
    "(too narrow below about 30 images). A change is the row's error minus that of the full row of "
    "the same size: the paper's on the RSNA set, ours paired on the test images. A change whose "
    "interval contains 0 is not significant. Intervals do not contain the variation between "
    "trainings: repeat with other seeds."
)


PAPER, OURS = MALE, FEMALE
"""Colours that are distinct for colour-blind readers."""

APART = 0.2
"""Distance between the paper's line and ours, as a share of the row distance."""


def write_report(ablation: Ablation, out: Path) -> None:
    """Write an ablation into a folder; draw it if matplotlib is installed."""
    document = msgspec.json.format(msgspec.json.encode(ablation), indent=1)
    write_file(out / JSON, document + b"\n")
    write_file(out / MARKDOWN, markdown(ablation).encode())
    try:
        save_figures({PLOT: lambda: table_figure(ablation)}, out)
    except MissingBackendError:
        (out / PLOT).unlink(missing_ok=True)  # a plot of an earlier report


def markdown(ablation: Ablation) -> str:
    """Return an ablation as a page of Markdown."""
    lines = ["# The paper's Table 2, trained again", "", f"Paper: {ablation.paper}.", ""]
    lines += [f"Ours: {described(ablation)}.", "", EXPLANATION, ""]
    lines += [_line(COLUMNS), _line(["---", *["---:"] * (len(COLUMNS) - 1)])]
    lines += [_line(_cells(row)) for row in ablation.rows]
    found = notes(ablation)
    if found:
        lines += ["", *(f"* {note}" for note in found)]
    return "\n".join(lines) + "\n"


def described(ablation: Ablation) -> str:
    """Return one sentence on the data and the training settings."""
    data, recipe = ablation.data, ablation.recipe
    localizer = ", ".join(f"{k} {v}" for k, v in msgspec.to_builtins(ablation.localizer).items())
    images = f"{data.train}" + f" of {data.available}" * (data.train < data.available)
    return (
        f"{data.folder}: {images} training images, {data.validation} for validation, {data.test} "
        f"for test; at most {recipe.epochs} epochs, batches of {recipe.batch_size}, seed "
        f"{ablation.seed}, split seed {ablation.split_seed}; margin "
        f"{100 * ablation.margin:g} %; localizer: {localizer}"
    )


def notes(ablation: Ablation) -> list[str]:
    """Return notes: rows that share one training, and reasons for missing results."""
    found: dict[str, list[str]] = {}
    for row in ablation.rows:
        found.setdefault(row.run, []).append(row.name)
    lines = [
        f"{', '.join(names)}: one training ({run}), because their settings are the same"
        for run, names in found.items()
        if len(names) > 1
    ]
    reasons: dict[str, list[str]] = {}
    for row in ablation.rows:
        if row.reason is not None:
            reasons.setdefault(row.reason, []).append(row.name)
    return lines + [f"{', '.join(names)}: not run: {why}" for why, names in reasons.items()]


def with_interval(months: float, interval: Sequence[float] | None, sign: str = "") -> str:
    """Format an error, or a change with ``sign="+"``, and its interval."""
    form = f"{sign}.2f"
    text = f"{round(months, 2) + 0.0:{form}}"  # no -0.00
    if interval is None:
        return text
    low, high = (f"{round(value, 2) + 0.0:{form}}" for value in interval)
    return f"{text} ({low} to {high})"


def start_name(source: str) -> str:
    """Return ``imagenet``, ``none`` or the name of the weights file."""
    return source if source in {"imagenet", "none"} else Path(source).name


def duration(seconds: float) -> str:
    """Format a time in h, min or s."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _cells(row: Row) -> list[str]:
    paper, ours, change, found = row.paper, row.settings, row.change, row.measured
    conditions = (paper.sex, paper.preprocess, paper.pretrained)
    cells = [row.name, *("yes" if met else "no" for met in conditions)]
    cells += [str(paper.image_size)]
    cells += [f"{paper.rsna_mae_months:.1f}", f"{paper.additional_mae_months:.1f}"]
    cells += ["" if change is None else f"{change.paper_months:+.1f}"]
    cells += [str(ours.image_size), start_name(ours.pretrained)]
    if found is None:
        return [*cells, row.status, "", "", "", ""]
    effect = ""
    if change is not None and change.months is not None:
        effect = with_interval(change.months, change.ci95_months, "+")
    return [
        *cells,
        with_interval(found.test.mae_months, found.test.ci95_months),
        with_interval(found.validation.mae_months, found.validation.ci95_months),
        effect,
        f"{found.epochs} ({found.best_epoch})",
        duration(found.seconds),
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def table_figure(ablation: Ablation) -> Figure:
    """Draw the paper's errors and ours, one line per row."""
    rows = ablation.rows
    figure, axes = new_axes(7.4, 1.9 + 0.55 * len(rows))
    for place, row in enumerate(rows):
        paper = (row.paper.rsna_mae_months, row.paper.additional_mae_months)
        above, below = place - APART / 2, place + APART / 2
        axes.plot(paper[0], above, "o", color=PAPER, markersize=6)
        axes.plot(paper[1], above, "o", color=PAPER, markersize=6, fillstyle="none")
        if row.measured is None:
            continue
        test = row.measured.test
        if test.ci95_months is not None:
            axes.plot(test.ci95_months, (below, below), color=OURS, linewidth=2, alpha=0.5)
        axes.plot(test.mae_months, below, "D", color=OURS, markersize=6)
    axes.plot([], [], "o", color=PAPER, markersize=6, label="paper, RSNA set")
    axes.plot([], [], "o", color=PAPER, markersize=6, fillstyle="none", label="paper, private set")
    if any(row.measured is not None for row in rows):
        label = f"ours, test (n = {ablation.data.test}), 95 % interval"
        axes.plot([], [], "D-", color=OURS, markersize=6, label=label)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
    axes.set_xlabel("mean absolute error [months]")
    folder = ablation.data.folder
    axes.set_title(
        f"The paper's Table 2, and ours on {folder}", fontsize=9, color=ALL, parse_math=False
    )
    legend_below(figure, axes)
    return figure


def _label(row: Row) -> str:
    """Return a row's name, with our status or image size if it differs."""
    if row.measured is None:
        return f"{row.name}\nours: {row.status}"
    size = row.settings.image_size
    return row.name if size == row.paper.image_size else f"{row.name}\nours: {size} px"
