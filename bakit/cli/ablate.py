"""``bakit ablate``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from bakit.cli.options import PATH, Names, json_option, several
from bakit.cli.tables import echo, echo_json, next_step, print_line, print_table, safe
from bakit.cli.training_options import (
    make_plan,
    make_progress,
    recipe_options,
    training_options,
)
from bakit.model.recipes import default_recipe
from bakit.studies.ablate.table import TABLE_2

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.studies.ablate.table import Ablation


@click.command("ablate")
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the ablation.")
@click.option(
    "--rows",
    type=Names("row of the paper's Table 2", lambda: [row.name for row in TABLE_2], several=True),
    metavar="NAME,...",
    help=f"Rows to train: {', '.join(row.name for row in TABLE_2)}.  [default: all]",
)
@click.option("--resume", is_flag=True, help="Resume the ablation in --out, if there is one.")
@click.option("--limit", type=click.IntRange(1), help="Train on this many images, spread evenly.")
@click.option("--image-size", type=int, help="Image side in pixels.  [default: the paper's]")
@several(*recipe_options("epochs", "batch_size", "learning_rate", "phantoms"))
@click.option(
    "--pretrained",
    help="Initial weights of the pretrained rows, in every preset: imagenet, none, or a file "
    "(torchvision's weights or a bakit checkpoint).  [default: imagenet]",
)
@training_options
@json_option("Print ablation.json only.")
def command(
    data: Path,
    out: Path,
    rows: tuple[str, ...] | None,
    limit: int | None,
    image_size: int | None,
    *,
    resume: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401  # of training_options and recipe_options
) -> None:
    """Train the rows of the paper's Table 2 on a labelled folder and compare them.

    All rows share the images, the split, the seed and the recipe. --out gets ablation.json,
    ablation.md, ablation.png (if matplotlib is installed) and one training run per row in rows/.
    --resume continues an interrupted ablation; finished rows are not trained again.

    Rows that cannot be trained are skipped, for example if the ImageNet weights cannot be
    downloaded or the memory is too small.

    Exit status: 0 done, 1 no row has a result, 2 wrong input: the images, an option or --out cannot
    be used, or the rows have different images.

    \b
    Example:
      bakit ablate radiographs/ --out ablation
      bakit ablate radiographs/ --out small --image-size 96 --recipe scratch --limit 2000
    """
    from bakit.cli.progress import progress
    from bakit.settings import Architecture, Preprocessing
    from bakit.studies.ablate.run import ablate
    from bakit.training.fitting import Hardware

    pretrained = options["pretrained"] or "imagenet"  # of the pretrained rows, in every preset
    recipe = options["recipe"] or default_recipe(options["pretrained"])
    options |= {"pretrained": pretrained, "recipe": recipe}
    base = make_plan(data, options, Architecture(), Preprocessing(), limit=limit)
    accelerator, precision = options["accelerator"], options["precision"]

    with progress(log=True) as on_progress:
        ablation = ablate(
            base,
            out,
            rows=rows,
            image_size=image_size,
            resume=resume,
            hardware=Hardware(accelerator, precision=precision, threads=options["threads"]),
            cache=options["cache"],
            workers=options["workers"],
            say=lambda text: echo(safe(text), err=True),
            on_progress=on_progress,
            progress_of=lambda row: make_progress(on_progress, base.recipe.epochs, f"{row}: "),
        )
    if as_json:
        echo_json(ablation)
    else:
        print_ablation(ablation, out)
        next_step(f"bakit export {out}/rows/ROW/best.safetensors --target onnx")
    if all(row.measured is None for row in ablation.rows):
        sys.exit(1)


def print_ablation(ablation: Ablation, out: Path) -> None:
    """Print an ablation on stdout: the table, its notes, and the files."""
    from bakit.studies.ablate import report

    title = "The paper's Table 2 beside ours: MAE in months (95 % interval)"
    columns = [name for name in report.COLUMNS if name not in report.CONDITIONS]
    cells = [dict(zip(report.COLUMNS, report.row_cells(row), strict=True)) for row in ablation.rows]
    rows = [[row[name] for name in columns] for row in cells]
    lines = [f"{report.described(ablation)}.", "paper: on the RSNA set. change: from the full row."]
    lines += report.notes(ablation)
    lines += [
        str(out / name)
        for name in (report.JSON, report.MARKDOWN, report.PLOT)
        if (out / name).is_file()
    ]
    print_table(title, columns, rows, wrap=True)
    for line in lines:
        print_line(line)
