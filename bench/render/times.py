"""Figures: latency distribution of each bundle, and latency by stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.bench.render.figure import Figure, Panel, Row, Rows, Scale, Table, log_around
from bakit.bench.render.words import NONE, fixed, median_interval, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bakit.bench.report.document import BundleReport

STAGES = ("decode", "localize", "preprocess", "regress")
BINS = 72
"""Bins of a histogram, equally wide on the logarithmic axis."""

_LATENCY = (
    *("bundle", "p50", "p90", "p99", "mean", "p50 [95 %]", "queries", "stability", "cold start"),
    *("load", "first", "peak RSS, MB", "energy, J"),
)


def latency_figure(bundles: Sequence[BundleReport], labels: Mapping[str, str]) -> Figure | None:
    """Draw the latency distribution of each bundle; None if none was measured."""
    timed = [bundle for bundle in bundles if bundle.stage_ms("total", "p50_ms") is not None]
    if not timed:
        return None
    times = [_times_ms(bundle) for bundle in timed]
    marks = [
        [bundle.stage_ms("total", f"{p}_ms") or 0.0 for p in ("p50", "p90", "p99")]
        for bundle in timed
    ]
    scale = Scale(*log_around(v for values in (*times, *marks) for v in values), log=True)
    rows = [
        Row(
            labels[bundle.name],
            " · ".join(map(milliseconds, values)),
            (_bins(mine, scale), [scale(value) for value in values]),
        )
        for bundle, mine, values in zip(timed, times, marks, strict=True)
    ]
    label = "Latency in ms, as p50, p90, p99: " + "; ".join(
        f"{row.name} " + row.number.replace(" · ", ", ") for row in rows
    )
    queries = sorted({bundle.latency.queries for bundle in timed if bundle.latency})
    count = f"{queries[0]:,}" if len(queries) == 1 else f"{queries[0]:,} to {queries[-1]:,}"
    lead = (
        f"Latency from the bytes of an image file to the age: {count} queries of each bundle, one "
        "after the other. Right of each name: p50 · p90 · p99. The interval of p50 is of this run: "
        "another may differ by more."
    )
    if not all(times):
        lead += " Without samples in the report, only the range from p50 to p99 is shown."
    tables = [Table(_LATENCY, tuple(_latency_row(b, labels[b.name]) for b in bundles))]
    sweep = tuple(row for bundle in bundles for row in _sweep_rows(bundle, labels[bundle.name]))
    if sweep:
        tables.append(Table(("bundle", "threads", "images", "p50", "p90", "p99"), sweep))
    return Figure(
        "latency",
        "hills",
        "Latency",
        lead,
        (Panel(label, Rows(scale, "ms, logarithmic", rows)),),
        (("hill", "queries"), ("mark p50", "p50"), ("mark p90", "p90"), ("mark p99", "p99")),
        tuple(tables),
    )


def _times_ms(bundle: BundleReport) -> list[float]:
    """Return the latency of every query; empty if the report has no samples."""
    if bundle.latency is None or "total" not in bundle.latency.samples:
        return []
    return [time / 1e6 for time in bundle.latency.samples_ns("total") if time > 0]


def _bins(times: Sequence[float], scale: Scale) -> list[float]:
    """Return the bins of a histogram as shares of the highest."""
    counts = [0] * BINS
    for time in times:
        counts[min(int(scale(time) * BINS), BINS - 1)] += 1
    most = max(counts) or 1
    return [count / most for count in counts]


def _latency_row(bundle: BundleReport, label: str) -> tuple[str, ...]:
    latency, footprint = bundle.latency, bundle.footprint
    stability = latency.stability if latency else None
    energy = latency.energy if latency else None
    return (
        label,
        *(
            milliseconds(bundle.stage_ms("total", figure))
            for figure in ("p50_ms", "p90_ms", "p99_ms", "mean_ms")
        ),
        median_interval(latency),
        f"{latency.queries:,}" if latency else NONE,
        f"{stability.score:.0f} %" if stability else NONE,
        milliseconds(footprint.cold_start_ms if footprint else None),
        milliseconds(footprint.load_ms if footprint else None),
        milliseconds(footprint.first_prediction_ms if footprint else None),
        fixed(footprint.peak_rss_mb if footprint else None, 0),
        fixed(energy.joules_per_query if energy else None, 3),
    )


def _sweep_rows(bundle: BundleReport, label: str) -> list[tuple[str, ...]]:
    """Return the latencies with other numbers of threads or images."""
    rows = []
    for entry in bundle.latency.sweep if bundle.latency else ():
        total = entry.stages.get("total")
        times = (total.p50_ms, total.p90_ms, total.p99_ms) if total else (None, None, None)
        threads = "default" if entry.threads is None else str(entry.threads)
        rows.append((label, threads, str(entry.batch), *map(milliseconds, times)))
    return rows


def stages_figure(bundles: Sequence[BundleReport], labels: Mapping[str, str]) -> Figure | None:
    """Draw the mean latency of each stage, one bar per bundle; None if none was measured."""
    spent = {labels[bundle.name]: _stage_means(bundle) for bundle in bundles}
    spent = {label: means for label, means in spent.items() if sum(means.values()) > 0}
    if not spent:
        return None
    scale = Scale(0.0, max(sum(means.values()) for means in spent.values()) * 1.001)
    rows = []
    for label, means in spent.items():
        start, marks = 0.0, []
        for stage, value in means.items():
            if value > 0:
                marks.append((stage, scale(start), scale(start + value), milliseconds(value)))
            start += value
        rows.append(Row(label, f"{milliseconds(start)} ms", marks))
    stages = (*STAGES, "other")
    table = tuple(
        (label, *map(milliseconds, means.values()), milliseconds(sum(means.values())))
        for label, means in spent.items()
    )
    text = "Mean milliseconds by stage: " + "; ".join(
        f"{label} " + ", ".join(map(" ".join, zip(stages, numbers, strict=False)))
        for label, *numbers in table
    )
    return Figure(
        "stages",
        "bars",
        "Latency by stage",
        "Mean latency of each stage. Means add up to the total; percentiles do not.",
        (Panel(text, Rows(scale, "ms, mean", rows)),),
        tuple((f"stage {stage}", stage) for stage in stages),
        (Table(("bundle", *stages, "total"), table),),
    )


def _stage_means(bundle: BundleReport) -> dict[str, float]:
    means = {stage: max(bundle.stage_ms(stage, "mean_ms") or 0.0, 0.0) for stage in STAGES}
    total = bundle.stage_ms("total", "mean_ms") or 0.0
    return means | {"other": max(total - sum(means.values()), 0.0)}
