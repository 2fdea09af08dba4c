"""What the node counts, in the text format of Prometheus; nothing in it identifies a patient."""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from bakit.model.intervals import SEXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bakit.bundle import Manifest
    from bakit.prediction import Prediction

PREFIX = "bakit_node_"
COUNTERS = {
    "associations_total": "Requests for an association, by outcome.",
    "stores_total": "C-STORE requests, by outcome.",
    "protocol_errors_total": "Connections that ended with a broken PDU or message.",
    "films_total": "Radiographs that were read, by status and sex; failed: they will be retried.",
    "reasons_total": "Reasons for review and rejection (docs/quality.md).",
    "deliveries_total": "Reports sent to the peer, by outcome.",
}
HISTOGRAMS = {
    "read_seconds": ("Time to read one radiograph.", (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)),
    "answer_seconds": (
        "Time from a radiograph's last byte until the peer has accepted its report.",
        (0.2, 0.5, 1, 2, 5, 10, 30, 60, 600, 3600),
    ),
    "age_months": ("Predicted age, by sex.", tuple(range(12, 229, 12))),
    "interval_months": ("Width of the prediction interval.", (24, 28, 32, 36, 40, 44, 48)),
    "crop_pixels": ("Shorter side of the hand's box.", (50, 100, 200, 400, 800, 1600, 3200)),
}
GAUGES = {
    "spool_files": "Files of the spool: in, out, refused.",
    "spool_free_megabytes": "Room for radiographs; below 0, they are refused.",
    "peer_reachable": "Whether the last delivery reached the peer.",
    "reference_share": "Share of the checkpoint's validation images at or below a bound.",
    "drift": "Total variation distance, 0..1, of the predicted ages and sexes from the "
    "checkpoint's validation images.",
}
LEAST_FILMS = 20
"""Fewest ages for a drift."""

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters and histograms of one node, and the checkpoint's own distributions.

    The checkpoint's ages, sexes and interval widths are those of the images that its intervals were
    fitted on.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._lock = threading.Lock()
        self._intervals = manifest.intervals
        self._samples: dict[str, defaultdict[tuple[str, Labels], float]] = {
            name: defaultdict(float) for name in (*COUNTERS, *HISTOGRAMS, *GAUGES)
        }
        self._bins: Counter[tuple[str, int]] = Counter()
        edges = () if self._intervals is None else self._intervals.age_edges_months
        self._bounds = {name: bounds for name, (_, bounds) in HISTOGRAMS.items()}
        self._bounds["age_months"] = tuple(sorted({*self._bounds["age_months"], *edges}))

    def count(self, name: str, **labels: str) -> None:
        """Add 1 to a counter of ``COUNTERS``."""
        with self._lock:
            self._samples[name]["", tuple(labels.items())] += 1

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram of ``HISTOGRAMS``."""
        given = tuple(labels.items())
        with self._lock:
            found = self._samples[name]
            for bound in (*self._bounds[name], math.inf):
                found["_bucket", (*given, ("le", _bound(bound)))] += value <= bound
            found["_sum", given] += value
            found["_count", given] += 1

    def film(self, prediction: Prediction, seconds: float) -> None:
        """Count a radiograph that was read."""
        self.count("films_total", status=prediction.quality.status, sex=prediction.sex)
        for reason in prediction.quality.reasons:
            self.count("reasons_total", reason=reason)
        self.observe("read_seconds", seconds)
        if "side_pixels" in prediction.measures:
            self.observe("crop_pixels", prediction.measures["side_pixels"])
        if prediction.age_months is not None:
            self.observe("age_months", prediction.age_months, sex=prediction.sex)
        if prediction.interval_months is not None:
            lower, upper = prediction.interval_months
            self.observe("interval_months", upper - lower)
        if prediction.age_months is not None and self._intervals is not None:
            index = bisect_right(self._intervals.age_edges_months, prediction.age_months)
            with self._lock:
                self._bins[prediction.sex, index] += 1

    def text(self, gauges: Mapping[str, Mapping[Labels, float]]) -> str:
        """Return all metrics, with the current values of the node's own ``gauges``."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines({**gauges, **self._reference()}))

    def _lines(self, gauges: Mapping[str, Mapping[Labels, float]]) -> Iterator[str]:
        for kind, names in (("counter", COUNTERS), ("histogram", HISTOGRAMS), ("gauge", GAUGES)):
            for name, words in names.items():
                yield f"# HELP {PREFIX}{name} {words if isinstance(words, str) else words[0]}"
                yield f"# TYPE {PREFIX}{name} {kind}"
                for (end, labels), value in self._samples[name].items():
                    yield _line(name + end, labels, value)
                for labels, value in gauges.get(name, {}).items():
                    yield _line(name, labels, value)

    def _reference(self) -> dict[str, dict[Labels, float]]:
        """Return the checkpoint's own distributions, and the distance from them."""
        if self._intervals is None:
            return {}
        samples, offsets = self._intervals.samples, self._intervals.offsets_months
        total = sum(map(sum, samples.values()))
        shares: dict[Labels, float] = {}
        for sex in SEXES:
            for index, edge in enumerate((*self._intervals.age_edges_months, math.inf)):
                labels = (("measure", "age_months"), ("sex", sex), ("le", _bound(edge)))
                shares[labels] = sum(samples[sex][: index + 1]) / total
        widths = [
            (upper - lower, number)
            for sex in SEXES
            for (lower, upper), number in zip(offsets[sex], samples[sex], strict=True)
        ]
        for bound in self._bounds["interval_months"]:
            within = sum(number for width, number in widths if width <= bound)
            shares[("measure", "interval_months"), ("le", _bound(bound))] = within / total
        found = {"reference_share": shares}
        if (films := self._bins.total()) >= LEAST_FILMS:
            gaps = (
                abs(self._bins[sex, index] / films - number / total)
                for sex in SEXES
                for index, number in enumerate(samples[sex])
            )
            found["drift"] = {(): sum(gaps) / 2}
        return found


def _bound(value: float) -> str:
    return "+Inf" if value == math.inf else f"{value:g}"


def _line(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{text}"' for key, text in labels)
    return f"{PREFIX}{name}{{{inside}}} {value:.10g}" if inside else f"{PREFIX}{name} {value:.10g}"
