"""Figures: latency distribution of each bundle, and latency by stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.bench.render.svg import (
    AXIS,
    Figure,
    Panel,
    Scale,
    Table,
    axis,
    element,
    log_around,
    names,
    picture,
    x_percent,
)
from bakit.bench.render.words import NONE, fixed, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from bakit.bench.report.document import BundleReport

STAGES = ("decode", "localize", "preprocess", "regress")
BINS = 72
"""Bins of a histogram, equally wide on the logarithmic axis."""

_HILL = 34  # height of a histogram, in pixels
_LATENCY = (
    *("bundle", "p50", "p90", "p99", "mean", "queries", "stability", "cold start", "load"),
    *("first", "peak RSS, MB", "energy, J"),
)


def latency_figure(bundles: Sequence[BundleReport], labels: Mapping[str, str]) -> Figure | None:
    """Draw the latency distribution of each bundle; None if none was measured."""
    timed = [bundle for bundle in bundles if bundle.stage_ms("total", "p50_ms") is not None]
    if not timed:
        return None
    times = {bundle.name: _times_ms(bundle) for bundle in timed}
    marks = {
        bundle.name: [bundle.stage_ms("total", f"{p}_ms") or 0.0 for p in ("p50", "p90", "p99")]
        for bundle in timed
    }
    everything = [v for name in times for v in (*times[name], *marks[name])]
    scale = Scale(*log_around(everything), log=True)
    row = 30.0 + _HILL
    bottom = row * len(timed)
    parts = axis(scale, 0, bottom, "ms, logarithmic", 7)
    for index, bundle in enumerate(timed):
        base = row * (index + 1) - 6
        name = bundle.name
        places = [x_percent(scale(value)) for value in marks[name]]
        words = " · ".join(map(milliseconds, marks[name]))
        parts += names(labels[name], words, base - _HILL - 8)
        parts.append(_hill(times[name], scale, base))
        parts.append(element("line", x1=places[0], x2=places[2], y1=base, y2=base, class_="spread"))
        parts += [
            element("line", x1=x, x2=x, y1=base - height, y2=base, class_=f"mark {class_}")
            for x, height, class_ in zip(places, (_HILL, 16, 9), ("p50", "p90", "p99"), strict=True)
        ]
    label = "Latency in ms, as p50, p90, p99: " + "; ".join(
        f"{labels[b.name]} " + ", ".join(milliseconds(v) for v in marks[b.name]) for b in timed
    )
    queries = sorted({bundle.latency.queries for bundle in timed if bundle.latency})
    count = f"{queries[0]:,}" if len(queries) == 1 else f"{queries[0]:,} to {queries[-1]:,}"
    lead = (
        f"Latency from the bytes of an image file to the age: {count} queries of each bundle, one "
        "after the other. Right of each name: p50 · p90 · p99."
    )
    if not all(times.values()):
        lead += " Without samples in the report, only the range from p50 to p99 is shown."
    tables = [Table(_LATENCY, tuple(_latency_row(b, labels[b.name]) for b in bundles))]
    sweep = tuple(row for bundle in bundles for row in _sweep_rows(bundle, labels[bundle.name]))
    if sweep:
        tables.append(Table(("bundle", "threads", "images", "p50", "p90", "p99"), sweep))
    return Figure(
        "latency",
        "Latency",
        lead,
        (Panel(picture(parts, label, bottom + AXIS)),),
        (("hill", "queries"), ("mark p50", "p50"), ("mark p90", "p90"), ("mark p99", "p99")),
        tuple(tables),
    )


def _times_ms(bundle: BundleReport) -> list[float]:
    """Return the latency of every query; empty if the report has no samples."""
    if bundle.latency is None or "total" not in bundle.latency.samples:
        return []
    return [time / 1e6 for time in bundle.latency.samples_ns("total") if time > 0]


def _hill(times: Sequence[float], scale: Scale, base: float) -> Markup:
    """Draw a histogram as a step line."""
    counts = [0] * BINS
    for time in times:
        counts[min(int(scale(time) * BINS), BINS - 1)] += 1
    most = max(counts) or 1
    path = f"M0 {_HILL}"
    for index, count in enumerate(counts):
        path += f"V{_HILL - _HILL * count / most:.1f}H{index + 1}"
    shape = element("path", d=f"{path}V{_HILL}Z", class_="hill")
    return element(
        "svg",
        shape,
        x="0",
        y=base - _HILL,
        width="100%",
        height=float(_HILL),
        viewbox=f"0 0 {BINS} {_HILL}",
        preserveAspectRatio="none",
    )


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
    spent = {bundle.name: _stage_means(bundle) for bundle in bundles}
    rows = [bundle for bundle in bundles if sum(spent[bundle.name].values()) > 0]
    if not rows:
        return None
    longest = max(sum(spent[bundle.name].values()) for bundle in rows)
    scale = Scale(0.0, longest * 1.001)
    bottom = 4.0 + 52 * len(rows)
    parts = axis(scale, 0, bottom, "ms, mean", 7)
    for index, bundle in enumerate(rows):
        y = 4 + 52 * index
        total = sum(spent[bundle.name].values())
        parts += names(labels[bundle.name], f"{milliseconds(total)} ms", y + 13)
        start = 0.0
        for stage, value in spent[bundle.name].items():
            parts += _segment(stage, scale(start), scale(start + value), value, y + 20)
            start += value
    label = "Mean milliseconds by stage: " + "; ".join(
        f"{labels[b.name]} "
        + ", ".join(f"{stage} {milliseconds(value)}" for stage, value in spent[b.name].items())
        for b in rows
    )
    head = ("bundle", *STAGES, "other", "total")
    table = tuple(
        (
            labels[bundle.name],
            *(milliseconds(value) for value in spent[bundle.name].values()),
            milliseconds(sum(spent[bundle.name].values())),
        )
        for bundle in rows
    )
    return Figure(
        "stages",
        "Latency by stage",
        "Mean latency of each stage. Means add up to the total; percentiles do not.",
        (Panel(picture(parts, label, bottom + AXIS)),),
        tuple((f"stage {stage}", stage) for stage in (*STAGES, "other")),
        (Table(head, table),),
    )


def _stage_means(bundle: BundleReport) -> dict[str, float]:
    means = {stage: max(bundle.stage_ms(stage, "mean_ms") or 0.0, 0.0) for stage in STAGES}
    total = bundle.stage_ms("total", "mean_ms") or 0.0
    return means | {"other": max(total - sum(means.values()), 0.0)}


def _segment(stage: str, start: float, end: float, value: float, y: float) -> list[Markup]:
    """Draw one stage of a bar, with its number if there is room."""
    if end <= start:
        return []
    title = element("title", f"{stage}: {milliseconds(value)} ms")
    box = {"x": x_percent(start), "width": x_percent(end - start)}
    parts = [element("rect", title, **box, y=y, height=22, class_=f"stage {stage}")]
    if end - start > 0.13:
        middle = {"x": x_percent((start + end) / 2), "text_anchor": "middle"}
        parts.append(
            element("text", milliseconds(value), **middle, y=y + 15, class_=f"inside {stage}")
        )
    return parts
