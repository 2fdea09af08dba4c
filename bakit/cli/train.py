"""``bakit train``, ``bakit ablate`` and ``bakit distill``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from bakit.cli.options import (
    OUT_FILE,
    OUT_FOLDER,
    PATH,
    Names,
    Number,
    json_option,
    several,
    workers_option,
)
from bakit.cli.tables import echo, echo_json, next_step, print_line, print_table, safe
from bakit.cli.training_options import (
    check_folders,
    exclude_option,
    hardware_of,
    make_plan,
    make_progress,
    recipe_options,
    split_seed_option,
    training_options,
)
from bakit.errors import InputError
from bakit.model.recipes import default_recipe
from bakit.settings import (
    MAX_VALIDATION_SHARE,
    MIN_VALIDATION_SHARE,
    VALIDATION_SHARE,
    Architecture,
    Preprocessing,
)
from bakit.studies.ablate.table import TABLE_2

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.studies.ablate.table import Ablation


@click.command("train")
@click.argument("data", type=PATH)
@click.option("--out", type=OUT_FOLDER, required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Resume the run in --out, if there is one.")
@click.option(
    "--image-size",
    type=int,
    default=Preprocessing().image_size,
    help="Side in pixels; the paper's Table 2 has 224, 500 and 700.",
)
@click.option("--head-layers", type=click.IntRange(1, 4), default=2, help="Hidden layers.")
@click.option("--sex/--no-sex", default=True, help="Sex as an input.")
@click.option("--localize/--no-localize", default=True, help="Crop to the localizer's box.")
@click.option("--equalize/--no-equalize", default=True, help="Equalize the histogram.")
@click.option(
    "--validation-share",
    type=click.FloatRange(MIN_VALIDATION_SHARE, MAX_VALIDATION_SHARE),
    default=VALIDATION_SHARE,
    help="Share of the images for validation; a tenth is for test, the rest for training.",
)
@click.option("--deterministic", is_flag=True, help="Fail on nondeterministic operations.")
@click.option(
    "--devices", type=click.IntRange(1), default=1, help="GPUs or CPU processes on each machine."
)
@click.option("--nodes", type=click.IntRange(1), default=1, help="Machines.")
@training_options
@click.option("--describe", default="not described", help="Description of the data to store.")
@click.option("--terms", default="not stated", help="Terms of use of the weights to store.")
@several(*recipe_options())
def command(
    data: Path,
    out: Path,
    image_size: int,
    head_layers: int,
    validation_share: float,
    devices: int,
    nodes: int,
    describe: str,
    terms: str,
    *,
    resume: bool,
    sex: bool,
    localize: bool,
    equalize: bool,
    deterministic: bool,
    **options: Any,  # noqa: ANN401  # of training_options and recipe_options
) -> None:
    """Train a float checkpoint on a labelled folder, by default split 7:2:1.

    The run's folder gets best.safetensors, last.safetensors, metrics.csv, progress.json, curve.png
    and TensorBoard logs. --resume continues an interrupted run; the result is the same.

    \b
    Example:
      bakit phantoms --out phantoms -n 2000 --height 160
      bakit train phantoms --out run --recipe scratch --epochs 5
    """
    from bakit.cli.progress import progress

    check_folders(data, out)
    try:
        preprocessing = Preprocessing(image_size, localize=localize, equalize=equalize)
    except ValueError as error:
        raise InputError(str(error)) from error
    from bakit.training.fitting import Hardware
    from bakit.training.run import CURVE, train

    architecture = Architecture(head_layers=head_layers, sex=sex)
    more = {"validation_share": validation_share, "description": describe, "terms": terms}
    plan = make_plan(data, options, architecture, preprocessing, **more)
    hardware = Hardware(
        devices=devices, nodes=nodes, deterministic=deterministic, **hardware_of(options)
    )
    with progress(log=True) as on_progress:
        checkpoint = train(
            plan,
            out,
            resume=resume,
            hardware=hardware,
            cache=options["cache"],
            workers=options["workers"],
            progress=make_progress(on_progress, plan.recipe.epochs),
        )
    if checkpoint is None:  # not the main process
        return
    echo(f"{checkpoint.path}\nplot: {out / CURVE}")
    record = checkpoint.header.training
    for part, metrics in record.metrics.items() if record else ():
        held = metrics.interval_coverage
        text = "" if held is None else f", interval coverage {100 * held:.1f} %"
        echo(f"{part}: MAE {metrics.mae_months:.2f} months on {metrics.samples} images{text}")
    next_step("bakit export", checkpoint.path, "--target onnx --precision fp32,int8")


@click.command("distill")
@click.argument("data", type=PATH)
@click.option("--out", type=OUT_FILE, required=True, help="File to write, .safetensors.")
@click.option("--images", type=click.IntRange(0), default=4000, help="Radiographs to train on.")
@click.option("--phantoms", type=click.IntRange(0), default=2500, help="Phantoms to train on.")
@click.option(
    "--empties", type=click.IntRange(0), default=600, help="Generated images without a hand."
)
@click.option("--steps", type=click.IntRange(2), default=3000, help="Training steps.")
@click.option("--batch-size", type=click.IntRange(2), default=48, help="Images per batch.")
@click.option(
    "--learning-rate",
    type=Number(0, 1),
    default=3e-3,
    help="Peak learning rate (AdamW, one-cycle).",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the training.")
@exclude_option
@split_seed_option
@workers_option
def distill_command(
    data: Path,
    out: Path,
    exclude: tuple[Path, ...],
    split_seed: int,
    workers: int | None,
    **numbers: Any,  # noqa: ANN401  # the numbers of Lessons, by name
) -> None:
    """Train the student, a small hand localizer.

    Only the training split of DATA is used, without its labels. Use the file with bakit train
    --localizer and bakit localize --method.

    \b
    Example:
      bakit distill radiographs/ --out student.safetensors
    """
    from bakit.cli.progress import progress

    if out.suffix != ".safetensors":
        message = f"--out: {out}: end the name with .safetensors"
        raise InputError(message)
    from bakit.training.distill import Lessons, distill

    lessons = Lessons(**numbers)

    def on_loss(step: int, loss: float) -> None:
        echo(f"step {step}/{lessons.steps}: loss {loss:.4f}", err=True)

    with progress(log=True) as on_progress:
        found = distill(
            data,
            out,
            lessons,
            exclude=exclude,
            split_seed=split_seed,
            workers=workers,
            on_progress=on_progress,
            on_loss=on_loss,
        )
    echo(f"{out}  {sum(v.size for v in found.weights.values())} weights")
    next_step("bakit train", data, "--out run --pretrained imagenet --localizer", out)


@click.command("ablate")
@click.argument("data", type=PATH)
@click.option("--out", type=OUT_FOLDER, required=True, help="Folder of the ablation.")
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
def ablate_command(
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
      bakit ablate radiographs/ --out small --image-size 96 --recipe scratch
    """
    from bakit.cli.progress import progress

    check_folders(data, out)
    from bakit.studies.ablate.run import ablate
    from bakit.training.fitting import Hardware

    pretrained = options["pretrained"] or "imagenet"  # of the pretrained rows, in every preset
    recipe = options["recipe"] or default_recipe(options["pretrained"])
    options |= {"pretrained": pretrained, "recipe": recipe}
    base = make_plan(data, options, Architecture(), Preprocessing(), limit=limit)

    with progress(log=True) as on_progress:
        ablation = ablate(
            base,
            out,
            rows=rows,
            image_size=image_size,
            resume=resume,
            hardware=Hardware(**hardware_of(options)),
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
        next_step("bakit export", out / "rows/ROW/best.safetensors", "--target onnx")
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
