"""Render a report as one HTML page. The template escapes all text of the report."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bakit import __version__
from bakit.bench.gate.recommend import at_most, recommend
from bakit.bench.render.drifts import drift_figure, groups_figure
from bakit.bench.render.figure import Table
from bakit.bench.render.pareto import front_figure
from bakit.bench.render.scatters import agreement_figure, truth_figure
from bakit.bench.render.times import latency_figure, stages_figure
from bakit.bench.render.words import (
    MINUS,
    STANDINGS,
    bundle_cells,
    fixed,
    milliseconds,
    shortened,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bakit.bench.report.document import BundleReport, Report

# Control characters and characters that change the direction of the text.
_UNSEEN_RANGES = ((0, 9), (11, 13), (14, 32), (127, 160), (0x202A, 0x202F), (0x2066, 0x206A))
_UNSEEN = {
    code: "\N{REPLACEMENT CHARACTER}"
    for start, stop in _UNSEEN_RANGES
    for code in range(start, stop)
}


class _Link(NamedTuple):
    """One step from checkpoint to bundle, with its digests by name."""

    name: str
    text: str
    digests: tuple[tuple[str, str], ...]


def page(report: Report) -> str:
    """Return the page; call ``bakit.bench.render.render_html`` instead."""
    environment = Environment(
        loader=PackageLoader("bakit.bench.render", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "at_most": at_most,
        "cells": bundle_cells,
        "fixed": fixed,
        "milliseconds": milliseconds,
        "number": lambda tick: f"{tick:g}".replace("-", MINUS),
        "percent": lambda share: f"{100 * share:.3f}%",
        "shortened": shortened,
    }
    loader = environment.loader
    assert loader is not None
    style, _, _ = loader.get_source(environment, "report.css")
    advice = recommend(report)
    labels = {standing.name: standing.label for standing in advice.standings}
    bundles = {bundle.name: bundle for bundle in report.bundles}
    ranked = [bundles[standing.name] for standing in advice.standings]
    figures = [
        front_figure(advice, bundles),
        drift_figure(ranked, labels),
        latency_figure(ranked, labels),
        stages_figure(ranked, labels),
        truth_figure(ranked, labels),
        agreement_figure(ranked, labels),
        groups_figure(ranked, labels),
    ]
    text = environment.get_template("report.html.j2").render(
        style=Markup(style),  # noqa: S704  # our own file
        report=report,
        measured_at=_date(report.measured_at),
        advice=advice,
        shipped=bundles.get(advice.ship or ""),
        rows=[(standing, bundles[standing.name]) for standing in advice.standings],
        badges=STANDINGS,
        figures=[figure for figure in figures if figure is not None],
        blame=_blame(ranked, labels),
        warnings=_warnings(report, labels),
        chains=[(labels[bundle.name], _chain(bundle)) for bundle in ranked],
        digests=_digests(ranked, labels),
        version=__version__,
    )
    return text.lstrip().translate(_UNSEEN)


def _date(measured_at: str | None) -> str:
    """Return a time such as ``2030-01-31T10:00:00Z`` in words; what is no time as it is."""
    try:
        time = datetime.strptime(measured_at or "", "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return measured_at or ""
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def _warnings(report: Report, labels: Mapping[str, str]) -> list[str]:
    lines = [f"{labels[b.name]} failed: {b.error}" for b in report.bundles if b.error]
    for bundle in report.bundles:
        stability = bundle.latency.stability if bundle.latency else None
        if stability is not None and stability.warning:
            causes = f" Likely cause: {'; '.join(stability.causes)}." if stability.causes else ""
            lines.append(f"{labels[bundle.name]}: {stability.warning.rstrip('.')}.{causes}")
    return lines


def _blame(bundles: list[BundleReport], labels: Mapping[str, str]) -> Table | None:
    """Return the drift of each step from the float model to each bundle."""
    rows = tuple(
        (
            labels[bundle.name],
            step.step,
            f"{labels.get(step.before, step.before)} → {labels.get(step.after, step.after)}",
            signed(step.drift_months),
            f"{fixed(step.mean_abs_change_months)} / {fixed(step.p99_abs_change_months)}",
            fixed(step.max_abs_change_months),
        )
        for bundle in bundles
        if bundle.drift
        for step in bundle.drift.blame
    )
    head = ("bundle", "step", "from → to", "drift, months", "change, mean / p99", "largest change")
    return Table(head, rows, words=(1, 2)) if rows else None


def _chain(bundle: BundleReport) -> list[_Link]:
    links = [_Link("checkpoint", bundle.checkpoint, (("", bundle.checkpoint_sha256),))]
    made = bundle.provenance
    if made is not None:
        if made.calibration_sha256:
            images = (("images", made.calibration_sha256),)
            links.append(_Link("calibration", made.calibration or "", images))
        else:
            links.append(_Link("calibration", "none: floating point", ()))
        tools = ", ".join(f"{name} {version}" for name, version in made.tool_versions.items())
        links.append(_Link("graph", tools, tuple(made.files_sha256.items())))
        if made.engine_sha256:
            links.append(_Link("engine", "built on the device", tuple(made.engine_sha256.items())))
    links.append(_Link("bundle", bundle.name, (("", bundle.bundle_sha256),)))
    links.append(_Link("runs on", bundle.provider or "nothing: the bundle failed", ()))
    return links


def _digests(bundles: list[BundleReport], labels: Mapping[str, str]) -> Table:
    rows = tuple(
        (labels[bundle.name], f"{link.name} {name}".strip(), digest)
        for bundle in bundles
        for link in _chain(bundle)
        for name, digest in link.digests
    )
    return Table(("bundle", "file", "SHA-256"), rows, words=(1, 2))
