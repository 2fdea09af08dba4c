"""Plots of a labelled dataset: ages, sexes, sizes and a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bakit.data.labels import read_labels
from bakit.figures import ALL, FEMALE, MALE, new_axes, picture_grid, save_figures, short_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bakit.data.labels import Sample
    from bakit.studies.describe.document import Description

SHEET_SIDE = 5
"""Rows and columns of the contact sheet."""


def draw_plots(description: Description, folder: Path, out: Path) -> list[Path]:
    """Draw the plots into ``out`` and return the files; none if no image is usable.

    Raises:
        MissingBackendError: If matplotlib is not installed.
        ImageError: If an image has changed since it was described.
    """
    if not description.usable:
        return []
    pictures: dict[str, Callable[[], Figure]] = {
        "ages.png": lambda: _ages(description),
        "sexes.png": lambda: _sexes(description),
        "contact_sheet.png": lambda: _contact_sheet(_evenly(description, folder), description),
    }
    if len(description.sizes) > 1:
        pictures["sizes.png"] = lambda: _sizes(description)
    return save_figures(pictures, out)


def _ages(description: Description) -> Figure:
    figure, axes = new_axes(7.0, 3.6)
    years = np.array([count.year for count in description.ages_by_year])
    counts = (
        ("female", FEMALE, -0.21, [count.female for count in description.ages_by_year]),
        ("male", MALE, 0.21, [count.male for count in description.ages_by_year]),
    )
    for sex, colour, shift, images in counts:
        axes.bar(
            years + 0.5 + shift, images, 0.42, color=colour, label=f"{sex} (n = {sum(images)})"
        )
    axes.set_xlim(0, years[-1] + 1)
    axes.set_xticks(range(0, years[-1] + 2, 1 if years[-1] < 24 else 2))
    axes.set_xlabel("bone age [years]")
    _count_images(axes, f"Bone age by sex, {_name(description)} (n = {description.usable})")
    axes.legend(frameon=False)
    return figure


def _sexes(description: Description) -> Figure:
    figure, axes = new_axes(3.6, 3.6)
    counts = (description.females, description.males)
    bars = axes.bar(("female", "male"), counts, 0.6, color=(FEMALE, MALE))
    labels = [f"{count}\n{count / description.usable:.1%}" for count in counts]
    axes.bar_label(bars, labels, padding=2)
    axes.margins(y=0.2)  # room for the labels
    _count_images(axes, f"{_name(description)} (n = {description.usable})")
    return figure


def _count_images(axes: Axes, title: str) -> None:
    axes.set_title(title, parse_math=False)
    axes.set_ylabel("images")
    axes.locator_params(axis="y", integer=True)
    axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)


def _sizes(description: Description) -> Figure:
    figure, axes = new_axes(5.2, 4.6)
    sizes = description.sizes
    images = np.array([size.images for size in sizes])
    widths, heights = [size.width for size in sizes], [size.height for size in sizes]
    # The area of a dot is proportional to its images, so that a common size is visible.
    areas = 12 + 288 * images / images.max() if images.max() > 1 else 12 + 0 * images
    axes.scatter(widths, heights, areas, color=ALL, alpha=0.6, linewidths=0)
    axes.axline((0, 0), slope=1, color="black", linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xlim(0, 1.08 * max(widths))
    axes.set_ylim(0, 1.08 * max(heights))
    axes.set_xlabel("width [pixels]")
    axes.set_ylabel("height [pixels]")
    title = f"{len(sizes)} image sizes, {_name(description)} (n = {images.sum()})"
    axes.set_title(title, parse_math=False)
    axes.legend(
        ["dot area: images of that size", "square"],
        frameon=False,
        loc="lower right",
        markerscale=0.6,
    )
    return figure


def _contact_sheet(samples: Sequence[Sample], description: Description) -> Figure:
    pictures = []
    for sample in samples:
        years, months = divmod(round(sample.age_months), 12)
        sex, name = "M" if sample.male else "F", short_text(sample.id, 14)
        pictures.append((sample.path, f"{sex}, {years} y {months} m\n{name}"))
    figure, _ = picture_grid(pictures, SHEET_SIDE, row_height=1.75, head=0.5)
    shown = f"{len(samples)} of {description.usable} images"
    title = f"{_name(description)}: {shown}, by bone age"
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def _evenly(description: Description, folder: Path) -> list[Sample]:
    """Choose usable images spread evenly over the ages, including the lowest and highest."""
    bad = {image.id for image in (*description.unreadable, *description.blank)}
    usable = [row.sample for row in read_labels(folder).rows if row.sample]
    usable = [sample for sample in usable if sample.id not in bad]
    usable.sort(key=lambda sample: (sample.age_months, sample.id))
    count = min(len(usable), SHEET_SIDE**2)
    return [usable[round(index)] for index in np.linspace(0, len(usable) - 1, count)]


def _name(description: Description) -> str:
    return short_text(Path(description.folder).resolve().name, 24)
