"""``bakit gate``."""

from __future__ import annotations

from pathlib import Path

import click

_LIMIT = click.FloatRange(min=0)


@click.command("gate")
@click.argument("report", type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="Earlier report on the same images: an MAE may be worse than in it by the drift limit.",
)
@click.option(
    "--max-drift-months",
    type=_LIMIT,
    default=0.25,
    show_default=True,
    help="Largest upper end of the drift's 95 % interval.",
)
@click.option("--no-drift", is_flag=True, help="Set no limit on the drift.")
@click.option("--max-mae-months", type=_LIMIT, help="Largest mean absolute error.")
@click.option(
    "--max-mean-change-months", type=_LIMIT, help="Largest mean change against the float model."
)
@click.option("--max-p99-change-months", type=_LIMIT, help="Largest 99th percentile of the change.")
@click.option("--max-p90-ms", type=_LIMIT, help="Largest 90th percentile of the total time.")
@click.option("--max-size-mb", type=_LIMIT, help="Largest size of the model files together.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    report: Path,
    baseline: Path | None,
    max_drift_months: float,
    max_mae_months: float | None,
    max_mean_change_months: float | None,
    max_p99_change_months: float | None,
    max_p90_ms: float | None,
    max_size_mb: float | None,
    *,
    no_drift: bool,
    as_json: bool,
) -> None:
    """Pass or fail every bundle of a REPORT that bakit bench --json wrote.

    Exit status: 0 all bundles pass, 1 one fails, 2 the report or a limit cannot be used.

    \b
    Example:
      bakit bench --data DATA --json report.json
      bakit gate report.json --max-drift-months 0.25 --max-p90-ms 150
    """
    import msgspec

    from bakit.bench import Gate, read_report

    gate = Gate(
        max_drift_months=None if no_drift else max_drift_months,
        max_mae_months=max_mae_months,
        max_mean_change_months=max_mean_change_months,
        max_p99_change_months=max_p99_change_months,
        max_p90_ms=max_p90_ms,
        max_size_mb=max_size_mb,
    )
    earlier = None if baseline is None else read_report(baseline)
    result = gate.check(read_report(report), earlier)
    if as_json:
        click.echo(msgspec.json.encode(result))
    else:
        for bundle in result.bundles:
            failures = "; ".join(bundle.failures)
            click.echo(f"fail  {bundle.name}: {failures}" if failures else f"pass  {bundle.name}")
    ctx.exit(0 if result.passed else 1)
