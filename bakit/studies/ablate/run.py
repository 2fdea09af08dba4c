"""``bakit ablate``: train the rows of Table 2 with the same images, split, seed and recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bakit.bench.statistics import mean_interval
from bakit.data.labels import read_samples
from bakit.data.splits import Split, ids_digest, split_record
from bakit.errors import BakitError, ImageError, InputError
from bakit.files import printable
from bakit.studies.ablate.report import write_report
from bakit.studies.ablate.runs import (
    ROWS,
    OtherImagesError,
    check_images,
    plan_runs,
    read_results,
    run_of,
    train_run,
    without_weights,
)
from bakit.studies.ablate.table import (
    CITATION,
    SCHEMA_VERSION,
    TABLE_2,
    Ablation,
    Change,
    Data,
    Row,
    Settings,
    find_rows,
    full_row,
)
from bakit.training.fitting import THIS_MACHINE, Hardware
from bakit.training.plan import limited, read_parts
from bakit.training.run import SILENT, Progress
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bakit.studies.ablate.runs import Result, Run
    from bakit.studies.ablate.table import PaperRow
    from bakit.training.plan import TrainingPlan
    from bakit.types import OnProgress


OUT_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory", "alloc_failed")
"""Substrings of torch's out-of-memory messages; not all devices raise its own error class."""


def ablate(
    base: TrainingPlan,
    out: Path,
    *,
    rows: Iterable[str] | None = None,
    image_size: int | None = None,
    resume: bool = False,
    hardware: Hardware = THIS_MACHINE,
    cache: Path | None = None,
    workers: int | None = None,
    say: Callable[[str], object] = lambda _: None,
    on_progress: OnProgress = silent,
    progress_of: Callable[[str], Progress] = lambda _: SILENT,
) -> Ablation:
    """Train rows of the paper's Table 2 and compare them.

    ``ablation.json``, ``ablation.md`` and, if matplotlib is installed, ``ablation.png`` are written
    after each row. Rows that cannot be trained, or that run out of memory, are skipped.

    Args:
        base: Common settings. Each row sets the sex, the preprocessing, the image size and whether
            the backbone is pretrained; the recipe names the pretrained weights.
        out: Folder of the ablation.
        rows: Names of the rows; all when None. Finished rows are always reported.
        image_size: Image side in pixels for all rows, instead of the paper's. Rows that differ only
            in their size then share one run.
        resume: Continue the ablation in ``out``; finished rows are not trained again.
        hardware: Training hardware; one process.
        cache: Folder for boxes and prepared images; ``out/cache`` when None.
        workers: Processes that prepare images; one per CPU when None.
        say: Called with a line of text for each run, before the first and after each training.
        on_progress: Called after each checked image.
        progress_of: Called with the name of each training; returns its callbacks.

    Raises:
        BakitError: If the data, the hardware or an option cannot be used, ``out`` holds an ablation
            and ``resume`` is False, its settings or images differ, or no row can be trained.
    """
    names = {row.name for row in find_rows(rows)}
    runs = plan_runs(base, image_size)
    hardware.check()
    read_samples(base.data)  # wrong labels are reported before the download
    results, begun = read_results(runs, out, resume=resume)
    asked = [run for run in runs if not names.isdisjoint(row.name for row in run.rows)]
    blocked = without_weights([run for run in asked if run.name not in results])
    possible = [run for run in asked if run.name not in blocked]
    if not possible:
        message = f"no row can be trained: {next(iter(blocked.values()))}"
        raise InputError(message)
    # Check the images first: nothing is written if they cannot be used.
    whole, left_out = next(iter(begun.values()), None) or read_parts(
        possible[0].plan, out / ROWS / possible[0].name, resume=True, on_progress=on_progress
    )
    shared = split_record(whole, base.split_seed, left_out)
    for name, (others, other_ids) in begun.items():
        check_images(out / ROWS / name, split_record(others, base.split_seed, other_ids), shared)
    parts = limited(base, whole)
    data = _data(base, whole, parts, left_out)
    say(
        f"{data.train} training images, {data.validation} for validation, {data.test} for test; "
        f"up to {base.recipe.epochs} epochs per row"
    )
    places = {run.name: f"{n}/{len(asked)} {run.name}" for n, run in enumerate(asked, start=1)}
    for run in asked:
        state = "already done" if run.name in results else "to train"
        if run.name in blocked:
            state = f"not run: {blocked[run.name]}"
        say(f"{places[run.name]} ({', '.join(row.name for row in run.rows)}): {state}")

    def report() -> Ablation:
        """Write the results so far."""
        shown = [
            _row(row, runs, results, blocked)
            for row in TABLE_2
            if row.name in names or run_of(row, runs).name in results
        ]
        numbers = (data, base.recipe, base.split_seed, base.seed, base.localizer.settings)
        head = (base.preprocessing.margin, base.architecture.head_layers)
        ablation = Ablation(SCHEMA_VERSION, CITATION, *numbers, *head, tuple(shown))
        write_report(ablation, out)
        return ablation

    for run in possible:
        if run.name in results:
            continue
        place = places[run.name]
        try:
            result = train_run(
                run,
                out / ROWS / run.name,
                parts,
                shared,
                hardware=hardware,
                cache=cache or out / "cache",
                workers=workers,
                progress=progress_of(place),
            )
        except (ImageError, OtherImagesError):
            raise  # all other rows have the same images
        except (BakitError, MemoryError, RuntimeError) as error:  # for example, it diverged
            reason = _why_not_run(error)
            if reason is None:
                raise
            blocked[run.name] = reason
            say(f"{place}: not run: {reason}")
        else:
            results[run.name] = result
            test = result.measured.test
            say(f"{place}: done: test MAE {test.mae_months:.2f} months on {test.samples} images")
        report()
    return report()


def _why_not_run(error: Exception) -> str | None:
    """Return the reason for a failed row in one line; None if it is a bug, to be raised."""
    if isinstance(error, BakitError):
        return printable(str(error))
    lines = str(error).splitlines() or ["out of memory"]  # torch may append a C++ traceback
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(phrase in text for phrase in OUT_OF_MEMORY):
        return lines[0]
    return None


def _data(base: TrainingPlan, whole: Split, parts: Split, left_out: Sequence[str]) -> Data:
    return Data(
        folder=printable(base.data.resolve().name),
        train=len(parts.train),
        available=len(whole.train),
        validation=len(parts.validation),
        test=len(parts.test),
        left_out=len(left_out),
        ids_sha256={name: ids_digest(getattr(parts, name)) for name in Split._fields},
    )


def _row(
    row: PaperRow, runs: Sequence[Run], results: dict[str, Result], blocked: dict[str, str]
) -> Row:
    run = run_of(row, runs)
    prepared = run.plan.preprocessing
    result = results.get(run.name)
    return Row(
        name=row.name,
        paper=row,
        settings=Settings(
            sex=run.plan.architecture.sex,
            localize=prepared.localize,
            equalize=prepared.equalize,
            pretrained=run.plan.recipe.pretrained,
            image_size=prepared.image_size,
        ),
        run=run.name,
        status="run" if result else "not run",
        reason=None if result else blocked.get(run.name, "not yet"),
        measured=result.measured if result else None,
        change=_change(row, runs, results),
    )


def _change(row: PaperRow, runs: Sequence[Run], results: dict[str, Result]) -> Change | None:
    """Compare a row with its full row; return None for a full row."""
    full = full_row(row)
    if row == full:
        return None
    change = Change(full.name, round(row.rsna_mae_months - full.rsna_mae_months, 1))
    names = [run_of(one, runs).name for one in (row, full)]
    if names[0] == names[1] or any(name not in results for name in names):
        return change
    pair = (np.array(results[name].test_errors) for name in names)
    differences = np.subtract(*pair)
    return msgspec.structs.replace(
        change, months=float(differences.mean()), ci95_months=mean_interval(differences)
    )
