"""``bakit demo`` and ``bakit phantoms``."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.cli.options import PATH
from bakit.cli.tables import echo, next_step


@click.command("demo")
@click.option("--out", type=PATH, default="bakit-demo", help="Output folder.")
@click.pass_context
def command(ctx: click.Context, out: Path) -> None:
    """Run export, predict, bench and gate on generated radiographs.

    Needs neither torch nor real images. The exit status is 1 if the gate fails.

    \b
    Example:
      bakit demo
    """
    from bakit.cli.report import print_report
    from bakit.studies.demo import GATE, MAX_MONTHS, run_demo

    result = run_demo(out, lambda text: echo(f"- {text}"))
    label, age = result.sample.age_months, result.prediction.age_months
    echo(f"  labelled {label:g} months, predicted {age:.1f} months by the INT8 bundle\n")
    print_report(result.report, GATE)
    for failure in result.gate.failures:
        echo(f"gate: {failure}")
    word = "passed" if result.gate.passed else "FAILED"
    limits = f"drift and changes {MAX_MONTHS:g} months, of groups {2 * MAX_MONTHS:g}"
    echo(f"gate: {word}; limits for generated radiographs: {limits}")
    echo(f"\nresults: {result.report_path}, {out / 'bundles'}, {out / 'phantoms'}")
    bundles = sorted(out / "bundles" / bundle.name for bundle in result.report.bundles)
    next_step("bakit bench", *bundles, "--data DATA   (your own labels.csv and images/)")
    if not result.gate.passed:
        ctx.exit(1)


@click.command("phantoms")
@click.option("--out", type=PATH, required=True, help="Output folder.")
@click.option("-n", "count", type=click.IntRange(1), required=True, help="Number of radiographs.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Random seed.")
@click.option(
    "--height", type=click.IntRange(96, 4000), default=640, help="Image height in pixels."
)
def phantoms_command(out: Path, count: int, seed: int, height: int) -> None:
    """Generate labelled radiographs: a folder with labels.csv and images/.

    \b
    Example:
      bakit phantoms --out phantoms -n 100
    """
    from bakit.cli.progress import progress
    from bakit.phantoms import write_phantoms

    with progress() as on_progress:
        write_phantoms(out, count, seed=seed, height=height, on_progress=on_progress)
    echo(f"{out}  {count} radiographs")
    next_step("bakit bench --data", out, "--json report.json")
