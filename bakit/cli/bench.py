"""``bakit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakit.cli.bench_devices import (
    bench_on_fleet,
    bench_on_host,
    bench_on_phone,
    check_phone,
    device_options,
    print_failures,
    take_options,
    write_kit_file,
)
from bakit.cli.bench_tables import (
    check_pages,
    finish_goal,
    goal_bundles,
    next_command,
    page_options,
    print_report,
    write_pages,
)
from bakit.cli.options import PATH, all_bundles, public_key_option, runnable_bundles
from bakit.cli.progress import progress
from bakit.cli.tables import echo, next_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.bench import Report
    from bakit.bundle import Bundle


class _Threads(click.ParamType):  # type: ignore[type-arg]  # generic in new clicks only
    """Numbers of threads, separated by commas."""

    name = "threads"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
            self.fail(f"{value!r} is not a thread count: use 2, or 1,2,4 for several", param, ctx)
        return tuple(int(word) for word in words)


@click.command("bench")
@click.argument("bundles", metavar="[BUNDLE]...", nargs=-1, type=PATH)
@click.option(
    "--data",
    type=PATH,
    help="Labelled folder (labels.csv, images/) for accuracy drift; without it, latency only.",
)
@click.option(
    "--reference",
    metavar="BUNDLE",
    type=PATH,
    help="FP32 bundle used as the float model. Default: chosen among the bundles.",
)
@public_key_option
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Use this many labelled images, spread evenly over labels.csv.",
)
@click.option(
    "--threads",
    type=_Threads(),
    metavar="N[,N]...",
    help="Threads of the backend. If you give several numbers, the first is used for the report "
    "and the others are measured in addition.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images in a query."
)
@click.option(
    "--queries",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Minimum number of queries of each bundle.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Minimum measuring time of each bundle.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write the report to FILE; - prints only the report on stdout.",
)
@page_options
@click.option("--goal", is_flag=True, help="Check INT8 bundles against the project's goal.")
@click.option(
    "--goal-json",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Check the goal and write the result to FILE.",
)
@device_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    bundles: tuple[Path, ...],
    data: Path | None,
    reference: Path | None,
    public_key: Path | None,
    limit: int | None,
    threads: tuple[int, ...] | None,
    batch: int,
    queries: int,
    seconds: float,
    json_file: str | None,
    html_file: Path | None,
    md_file: Path | None,
    goal_json: Path | None,
    *,
    goal: bool,
    **places: Any,  # noqa: ANN401  # the options of device_options
) -> None:
    """Measure bundles on this machine: latency, memory, and drift from the float model.

    Without a BUNDLE, all bundles in bakit-bundles/ that can run here are measured; the others are
    named. Close other programs first. A
    bundle that crashes is skipped from then on. Ctrl-C keeps the results so far.

    Exit status: 0 done, 1 a bundle failed or the goal is missed (docs/limits.md), 2 wrong input,
    130 interrupted.

    \b
    Example:
      bakit bench bakit-bundles/bakit-rsna299-onnx-fp32 bakit-bundles/bakit-rsna299-onnx-int8 \\
          --data DATA --json report.json --html report.html
      bakit bench --data DATA --goal
      bakit bench --phone --bind 0.0.0.0 --json phone.json
      bakit bench BUNDLE --host user@jetson --data DATA --reference FLOAT --json jetson.json
      bakit bench --fleet devices.toml --data DATA --json fleet.json
      bakit bench BUNDLE --kit kit.tar.gz --seconds 600
    """
    from bakit.bench import run_bench
    from bakit.files import check_writable

    for file in (json_file, html_file, md_file, goal_json):
        if file is not None and file != "-":
            check_writable(Path(file))
    check_pages(html_file, md_file)
    kit: Path | None = places.pop("kit")
    if kit is not None:
        check_writable(kit)
    host, phone = take_options(places, "host"), take_options(places, "phone")
    how: dict[str, Any] = {
        "data": data,
        "reference": reference,
        "limit": limit,
        "min_queries": queries,
        "min_duration_s": seconds,
        "threads": threads[0] if threads else None,
    }
    if (fleet := take_options(places, "fleet")) is not None:
        others: dict[str, object] = {"BUNDLE": bundles, "--host": host, "--phone": phone}
        others |= {"--kit": kit, "--goal": goal or goal_json, "--batch": batch != 1}
        others |= {"--reference": how.pop("reference"), "a thread sweep": len(threads or ()) > 1}
        report = bench_on_fleet(fleet, json_file, public_key, others, **how)
        _write_results(report, json_file, html_file, md_file)
        ctx.exit(_exit_status(report))
    if phone is not None:
        check_phone(threads, batch, goal or goal_json)
    paths = bundles or tuple(
        all_bundles() if host or kit else runnable_bundles(None if phone is None else "onnx")
    )
    goal_of = goal_bundles(paths, data) if goal or goal_json else []
    chosen: Sequence[Path | Bundle] = paths
    if public_key is not None:
        chosen = read_signed(paths, public_key)
        how["reference"] = reference and read_signed([reference], public_key)[0]
    if kit is not None:
        write_kit_file(chosen, kit, how)
        return
    if phone is not None:
        result = bench_on_phone(chosen, phone, **how)
        _write_results(result.report, json_file, html_file, md_file)
        ctx.exit(print_failures(result))
    with progress() as on_progress:
        if host is not None:
            log_file = Path(json_file).with_suffix(".log") if json_file not in {None, "-"} else None
            report = bench_on_host(chosen, host, log_file, on_progress=on_progress, **how)
        else:
            sweep = threads[1:] if threads else ()
            report = run_bench(
                chosen, on_progress=on_progress, sweep_threads=sweep, batch=batch, **how
            )
    _write_results(report, json_file, html_file, md_file)
    status = _exit_status(report)
    if goal_of and not report.partial:
        met = finish_goal(report, goal_of, goal_json, err=json_file == "-")
        status = status or (0 if met else 1)
    ctx.exit(status)


def read_signed(paths: Sequence[Path], public_key: Path) -> list[Bundle]:
    """Read bundles that have to be signed with a key.

    Raises:
        BundleError: If one is damaged, or not signed with the key.
    """
    from bakit.bundle import Bundle

    return [Bundle.read(path, public_key) for path in paths]


def _write_results(
    report: Report, json_file: str | None, html_file: Path | None, md_file: Path | None
) -> None:
    if json_file not in {None, "-"}:
        report.write(Path(str(json_file)))
    pages = write_pages(report, html_file, md_file)
    if json_file == "-":
        echo(report.encode(), nl=False)
        return
    print_report(report)
    for path in ([json_file] if json_file else []) + list(map(str, pages)):
        echo(f"report: {path}")
    next_step(next_command(report, json_file))


def _exit_status(report: Report) -> int:
    """Return 130 after Ctrl-C, 1 if a bundle failed, else 0."""
    if report.partial:
        return 130
    return 1 if any(bundle.error for bundle in report.bundles) else 0
