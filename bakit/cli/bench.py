"""``bakit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakit.cli.bench_devices import (
    BROWSER_PROVIDERS,
    bench_on_fleet,
    bench_on_host,
    bench_on_phone,
    check_place,
    device_options,
    take_options,
    write_kit_file,
)
from bakit.cli.options import (
    MOST_THREADS,
    OUT_FILE,
    OUT_FILE_OR_DASH,
    PATH,
    Number,
    Parsed,
    all_bundles,
    limit_option,
    public_key_option,
    runnable_bundles,
)
from bakit.cli.progress import progress
from bakit.cli.report import (
    finish_goal,
    goal_bundles,
    next_command,
    page_options,
    print_report,
    write_pages,
)
from bakit.cli.tables import echo, next_step, safe
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.bundle import Bundle


def _threads(text: str) -> tuple[int, ...]:
    """Return numbers of threads, separated by commas."""
    words = text.split(",")
    if not all(word.strip().isdecimal() and 0 < int(word) <= MOST_THREADS for word in words):
        message = f"{text!r} is not a thread count: use 2, or 1,2,4 for several"
        raise InputError(message)
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
@limit_option()
@click.option(
    "--threads",
    type=Parsed("threads", _threads),
    metavar="N[,N]...",
    help="Threads of the backend. If you give several numbers, the first is used for the report "
    "and the others are measured in addition.",
)
@click.option(
    "--provider",
    metavar="NAME",
    help="Provider of ONNX Runtime, such as cuda, qnn or xnnpack, for all bundles but those of "
    "target torch; with --phone: wasm, webgpu or webnn.  [default: cpu, wasm]",
)
@click.option(
    "--queries",
    "min_queries",
    type=click.IntRange(1),
    default=400,
    help="Minimum number of queries of a bundle.",
)
@click.option(
    "--seconds",
    "min_duration_s",
    type=Number(0),
    default=5.0,
    help="Minimum measuring time of a bundle.",
)
@click.option(
    "--whole",
    is_flag=True,
    help="Predict with the whole graph, from the film to months, where a bundle has one.",
)
@click.option(
    "--json",
    "json_file",
    type=OUT_FILE_OR_DASH,
    metavar="FILE",
    help="Write the report to FILE; - prints only the report on stdout.",
)
@page_options
@click.option("--goal", is_flag=True, help="Check INT8 bundles against the project's goal.")
@click.option(
    "--goal-json",
    type=OUT_FILE,
    metavar="FILE",
    help="Check the goal and write the result to FILE.",
)
@device_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    bundles: tuple[Path, ...],
    reference: Path | None,
    public_key: Path | None,
    threads: tuple[int, ...] | None,
    provider: str | None,
    json_file: Path | None,
    html_file: Path | None,
    md_file: Path | None,
    goal_json: Path | None,
    *,
    goal: bool,
    whole: bool,
    **more: Any,  # noqa: ANN401  # arguments of run_bench, and the options of device_options
) -> None:
    """Measure bundles on this machine: latency, memory, and drift from the float model.

    Without a BUNDLE, all bundles in bakit-bundles/ that can run here are measured; the others are
    named. Close other programs first. A bundle that crashes is skipped from then on. Ctrl-C keeps
    the results so far.

    Exit status: 0 done, 1 a bundle failed or the goal is missed (docs/limits.md), 2 wrong input,
    130 interrupted.

    \b
    Example:
      bakit bench --data DATA --json report.json --html report.html
      bakit bench --data DATA --goal
      bakit bench --phone --bind 0.0.0.0 --json phone.json
      bakit bench BUNDLE --host user@jetson --data DATA --reference FLOAT
      bakit bench --fleet devices.toml --data DATA --json fleet.json
      bakit bench BUNDLE --kit kit.tar.gz --seconds 600
    """
    from bakit.backends.providers import find_provider
    from bakit.bench import run_bench
    from bakit.bundle import Bundle
    from bakit.data.tables import find_table
    from bakit.files import check_outputs

    host, phone, fleet = (take_options(more, name) for name in ("host", "phone", "fleet"))
    kit: Path | None = more["kit"]
    how = {name: more[name] for name in ("data", "limit", "min_queries", "min_duration_s")}
    how["threads"] = threads[0] if threads else None
    if provider is not None and phone is not None:
        phone["provider"], provider = BROWSER_PROVIDERS.parse(provider), None
    elif provider is not None:
        provider = find_provider(provider)
    given: dict[str, object] = {"BUNDLE": bundles, "--data": how["data"], "--reference": reference}
    given |= {"--limit": how["limit"], "--json": json_file, "--html": html_file, "--md": md_file}
    given |= {"--fleet": fleet, "--phone": phone, "--host": host, "--kit": kit}
    given |= {"--goal": goal or goal_json, "--whole": whole, "--provider": provider}
    check_place(given | {"a thread sweep": len(threads or ()) > 1})
    as_json = json_file == Path("-")
    report_file = None if as_json else json_file
    outputs = (report_file, html_file, md_file, goal_json, kit)
    check_outputs(*outputs, inputs=bundles)
    if how["data"] is not None:
        find_table(how["data"])  # before bundles are skipped by name
    goal_of: Sequence[Bundle] = ()
    failures: Sequence[str] = ()
    if fleet is not None:
        report = bench_on_fleet(fleet, report_file, public_key, outputs, **how)
    else:
        only = ("onnx",) if phone else ("onnx", "torch") if provider else ()
        paths = bundles or (
            all_bundles() if host or kit else runnable_bundles(only, here=phone is None)
        )
        if goal or goal_json:
            goal_of = goal_bundles(paths, how["data"])
        chosen: Sequence[Path | Bundle] = paths
        how["reference"] = reference
        if public_key is not None:
            chosen = [Bundle.read(path, public_key) for path in paths]
            how["reference"] = reference and Bundle.read(reference, public_key)
        if kit is not None:
            write_kit_file(chosen, kit, how)
            return
        if phone is not None:
            report, failures = bench_on_phone(chosen, phone, **how)
        elif host is not None:
            log_file = report_file and report_file.with_suffix(".log")
            report = bench_on_host(chosen, host | {"provider": provider}, log_file, **how)
        else:
            how |= {"sweep_threads": (threads or ())[1:], "whole": whole, "provider": provider}
            with progress() as on_progress:
                report = run_bench(chosen, on_progress=on_progress, **how)
    if report_file is not None:
        report.write(report_file)
    pages = write_pages(report, html_file, md_file)
    if as_json:
        echo(report.encode(), nl=False)
    else:
        print_report(report)
        for path in (*filter(None, [report_file]), *pages):
            echo(f"report: {path}")
        next_step(*next_command(report, report_file))
    for failure in failures:
        echo(f"bakit: {safe(failure)}", err=True)
    status = int(bool(failures) or any(bundle.error for bundle in report.bundles))
    if report.partial and not failures:
        status = 130  # after Ctrl-C
    if goal_of and not report.partial:
        met = finish_goal(report, goal_of, goal_json, err=as_json)
        status = status or (0 if met else 1)
    ctx.exit(status)
