"""Latency, drift and host: against hand-computed values, without a model."""

from __future__ import annotations

import itertools
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakit import agent
from bakit.bench.assemble import BundleDrift, compute_drifts, latency_report
from bakit.bench.conditions import Conditions, judge, read_conditions, stage_times
from bakit.bench.drift.attribution import attribute
from bakit.bench.drift.compare import choose_references, compare, group_images, tail_images
from bakit.bench.host import read_host
from bakit.bench.local import latency as local_latency
from bakit.bench.local.ages import AgeRun
from bakit.bench.local.latency import EnergyMeter, LatencyRun
from bakit.bench.local.process import Predicted, Seen, WorkerError
from bakit.bench.raw import Raw, RawBundle, Reading
from bakit.bench.report.document import Settings
from bakit.bench.report.latency import LatencyReport, pack_samples, unpack_samples
from bakit.bench.statistics import difference_interval
from bakit.bench.task import Task
from bakit.bundle import Artifact, Bundle, Manifest
from bakit.data.labels import Sample
from bakit.errors import InputError, VerificationError
from bakit.image.box import Box
from bakit.settings import Preprocessing, UnrolledSettings
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bakit.types import Floats, OnProgress

FP32, INT8 = Precision.FP32, Precision.INT8


def make_bundle(
    name: str,
    target: str = "onnx",
    precision: Precision = FP32,
    checkpoint: str = "c1",
    localizer: str = "l1",
) -> Bundle:
    manifest = Manifest(
        schema_version=1,
        target=target,
        precision=precision,
        artifacts=(
            Artifact("localizer", "localizer.onnx", localizer, (), ()),
            Artifact("regressor", "regressor.onnx", f"sha of {name}", (), ()),
        ),
        preprocessing=Preprocessing(),
        localizer=UnrolledSettings(),
        localizer_form="loop",
        output_unit="months",
        checkpoint=f"name of {checkpoint}",
        checkpoint_sha256=checkpoint,
        calibration=None,
        calibration_sha256=None,
        golden=(),
        tolerance_months=0.01,
        tool_versions={},
        training_data="none",
        split=None,
    )
    return Bundle(Path("bundles") / name, manifest, f"sha of {name}")


class FakeWorker:
    """Stands in for a bundle's process: takes the time and says the ages that it is told.

    It fails where ``fails_after`` queries or ages have been asked of it.
    """

    def __init__(
        self,
        bundle: Bundle,
        total_ms: float = 10.0,
        log: list[str] | None = None,
        ages: tuple[float, ...] = (100.0,),
        box: Box | None = None,
        fails_after: int | None = None,
    ) -> None:
        self.bundle = bundle
        self.pid = os.getpid()
        self.threads: int | None = None
        self.error: str | None = None
        self.total_ms = total_ms
        self.log = [] if log is None else log
        self.ages = ages
        self.box = box
        self.images: list[int] = []
        self.located = 0
        self.left = fails_after

    def use(self) -> None:
        if self.left == 0:
            self.error = "its process ended with SIGSEGV"
            raise WorkerError(self.error)
        if self.left is not None:
            self.left -= 1

    def run(self, indices: Sequence[int]) -> list[list[int]]:
        # 1 + 2 + 3 + 0.5 + the rest: every stage can be told from the others.
        times = (1.0, 2.0, 3.0, 0.5, self.total_ms - 6.5, self.total_ms)
        rows = []
        for index in indices:
            self.use()
            self.log.append(self.bundle.name)
            self.images.append(index)
            rows.append([round(time * 1e6) for time in times])
        return rows

    def ask(self, sample: Sample, seen: Seen | None = None) -> Predicted:
        self.use()
        if seen is None:
            self.located += 1
            seen = Seen(self.box, Box(0, 0, 40, 40))
        return Predicted(self.ages[int(sample.id)], seen)

    def fail(self, reason: str) -> None:
        self.error = reason


def make_settings(
    min_queries: int = 20, min_duration_s: float = 0.0, warm_up: int = 0, block: int = 5
) -> Settings:
    return Settings(min_queries, min_duration_s, warm_up, block, None, 2000, 0)


def measure_latency(
    workers: list[FakeWorker],
    images: int,
    settings: Settings,
    on_progress: OnProgress = lambda step, done, total: None,
) -> list[LatencyReport]:
    run = LatencyRun(workers, images, settings)
    run.measure(on_progress)
    return [latency_of(run, row) for row in range(len(workers))]


def latency_of(run: LatencyRun, row: int = 0) -> LatencyReport:
    report = latency_report(RawBundle(**run.raw(row)))
    assert report is not None
    return report


def make_task(bundles: list[Bundle], reference: Bundle, samples: list[Sample]) -> Task:
    references = {reference.manifest.checkpoint_sha256: reference}
    return Task(bundles, make_settings(), samples, None, references, "2026-11-26T11:50:00Z")


def measure_drift(
    workers: list[FakeWorker], reference: Bundle, samples: list[Sample]
) -> list[BundleDrift]:
    run = AgeRun(workers, samples)
    run.measure()
    return drifts_of(run, workers, reference, samples)


def drifts_of(
    run: AgeRun, workers: list[FakeWorker], reference: Bundle, samples: list[Sample]
) -> list[BundleDrift]:
    raw = Raw(
        read_host(),
        tuple(
            RawBundle(readings=run.readings(row), error=worker.error)
            for row, worker in enumerate(workers)
        ),
        used=tuple(sample.id for sample in run.done),
    )
    return compute_drifts(make_task([w.bundle for w in workers], reference, samples), raw)


def test_bundles_take_turns_in_blocks() -> None:
    log: list[str] = []
    runtimes = [FakeWorker(make_bundle(name), log=log) for name in "AB"]
    shares: list[float] = []
    reports = measure_latency(runtimes, 3, make_settings(), lambda *told: shares.append(told[1]))
    assert "".join(log) == "AAAAAABBBBBB" * 4  # one uncounted and five counted, in turns
    assert [report.queries for report in reports] == [20, 20]
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert runtimes[0].images == runtimes[1].images  # ratios compare like with like


def test_one_bundle_alone_has_no_uncounted_queries_after_its_warm_up() -> None:
    runtime = FakeWorker(make_bundle("A"))
    (report,) = measure_latency([runtime], 3, make_settings(warm_up=7))
    assert len(runtime.log) == 7 + 20
    assert (report.warm_up, report.queries, report.images) == (7, 20, 3)
    assert runtime.images[7:] == [index % 3 for index in range(20)]


@pytest.mark.parametrize(
    ("min_queries", "min_duration_s", "queries"),
    [(20, 0.0, 20), (20, 1.0, 100), (200, 1.0, 200), (1, 0.0, 1)],
)
def test_both_least_queries_and_least_duration_are_met(
    min_queries: int, min_duration_s: float, queries: int
) -> None:
    runtime = FakeWorker(make_bundle("A"), total_ms=10)
    (report,) = measure_latency([runtime], 3, make_settings(min_queries, min_duration_s))
    assert report.queries == queries
    assert report.duration_s == pytest.approx(queries * 0.010)


def test_the_fastest_bundle_decides_when_the_duration_is_met() -> None:
    runtimes = [FakeWorker(make_bundle("A"), 10), FakeWorker(make_bundle("B"), 40)]
    fast, slow = measure_latency(runtimes, 3, make_settings(20, 1.0))
    assert fast.queries == slow.queries == 100
    assert slow.duration_s == pytest.approx(4 * fast.duration_s)


def test_each_stage_is_summarised() -> None:
    (report,) = measure_latency([FakeWorker(make_bundle("A"))], 3, make_settings())
    medians = {stage: times.p50_ms for stage, times in report.stages.items()}
    expected = {"decode": 1, "localize": 2, "preprocess": 3, "quality": 0.5, "regress": 3.5}
    assert medians == expected | {"total": 10}


def test_percentiles_interpolate_linearly() -> None:
    times = stage_times(np.arange(1.0, 102.0))
    assert (times.p50_ms, times.p90_ms, times.p99_ms, times.mean_ms) == (51, 91, 100, 51)


def test_torch_is_preferred_as_the_reference() -> None:
    bundles = [
        make_bundle("int8", precision=INT8),
        make_bundle("z-onnx"),
        make_bundle("a-onnx"),
        make_bundle("torch", target="torch"),
    ]
    assert choose_references(bundles) == {"c1": bundles[3]}
    assert choose_references(bundles[:3]) == {"c1": bundles[2]}
    assert choose_references(bundles, bundles[1]) == {"c1": bundles[1]}


def test_each_checkpoint_has_a_reference_of_its_own() -> None:
    bundles = [
        make_bundle("one"),
        make_bundle("two", checkpoint="c2"),
        make_bundle("two-int8", precision=INT8, checkpoint="c2"),
    ]
    assert choose_references(bundles) == {"c1": bundles[0], "c2": bundles[1]}
    with pytest.raises(InputError, match=r"two-int8.*bakit export --target onnx"):
        choose_references([bundles[0], bundles[2]])


def test_other_targets_stand_for_the_float_model_only_when_named() -> None:
    bundle = make_bundle("ov", target="openvino")
    with pytest.raises(InputError, match="--reference"):
        choose_references([bundle])
    assert choose_references([bundle], bundle) == {"c1": bundle}


def test_a_reference_that_is_no_float_model_of_the_bundles_is_refused() -> None:
    bundle = make_bundle("one")
    with pytest.raises(InputError, match="must be fp32, not int8"):
        choose_references([bundle], make_bundle("int8", precision=INT8))
    with pytest.raises(InputError, match="no other bundle was exported from it"):
        choose_references([bundle], make_bundle("two", checkpoint="c2"))


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    ages = (100.0, 60.0, 20.0)
    made = []
    for index, age in enumerate(ages):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), np.arange(40 * 40, dtype=np.uint8).reshape(40, 40))
        made.append(Sample(str(index), path, age, index % 2 == 0))
    return made


def test_drift_by_hand(samples: list[Sample]) -> None:
    reference = FakeWorker(make_bundle("float"), ages=(101, 60, 18), box=Box(0, 0, 20, 40))
    bundle = FakeWorker(
        make_bundle("int8", precision=INT8, localizer="l2"), ages=(103, 56, 21), box=None
    )
    done: list[None] = []
    workers = [bundle, reference]
    run = AgeRun(workers, samples)
    run.measure(lambda *_: done.append(None))
    (drift, _), (itself, _) = drifts_of(run, workers, reference.bundle, samples)
    assert drift is not None
    assert itself is not None
    assert len(done) == drift.samples == 3
    assert (drift.reference, drift.reference_target, drift.is_reference) == ("float", "onnx", False)
    assert drift.float_mae_months == pytest.approx((1 + 0 + 2) / 3)
    assert drift.bundle_mae_months == pytest.approx((3 + 4 + 1) / 3)
    assert drift.drift_months == pytest.approx(5 / 3)
    assert drift.bias_months == pytest.approx((3 - 4 + 1) / 3)
    assert drift.mean_abs_change_months == pytest.approx((2 + 4 + 3) / 3)
    assert drift.p99_abs_change_months == pytest.approx(3.98)
    assert drift.max_abs_change_months == 4
    assert drift.box_iou_mean == 0.5  # half of the image against the whole of it
    assert [(row.id, row.true_months) for row in drift.rows] == [("0", 100), ("1", 60), ("2", 20)]
    assert [(row.float_months, row.bundle_months) for row in drift.rows][1] == (60, 56)
    assert itself.is_reference
    assert itself.drift_months == 0
    assert itself.drift_ci95_months == (0, 0)
    assert itself.box_iou_mean == 1


def test_bundles_with_one_localizer_share_each_box(samples: list[Sample]) -> None:
    reference = FakeWorker(make_bundle("float"), ages=(1, 2, 3))
    same = FakeWorker(make_bundle("int8", precision=INT8), ages=(1, 2, 3))
    other = FakeWorker(make_bundle("torch", target="torch"), ages=(1, 2, 3))
    measure_drift([reference, same, other], reference.bundle, samples)
    assert (reference.located, same.located, other.located) == (3, 0, 3)


@pytest.mark.parametrize("age", [float("nan"), float("inf")])
def test_an_age_that_is_no_number_is_not_averaged(samples: list[Sample], age: float) -> None:
    reference = FakeWorker(make_bundle("float"), ages=(1, 2, 3))
    broken = FakeWorker(make_bundle("int8", precision=INT8), ages=(1, age, 3))
    (itself, _), (drift, error) = measure_drift([reference, broken], reference.bundle, samples)
    assert itself is not None
    assert itself.samples == 3
    assert drift is None
    assert re.search(r"int8: predicted (nan|inf) months for .*1\.png", broken.error or "")
    assert error == broken.error


def test_a_bundle_that_crashes_is_left_out_and_the_others_go_on(samples: list[Sample]) -> None:
    workers = [FakeWorker(make_bundle("A")), FakeWorker(make_bundle("B"), fails_after=31)]
    run = LatencyRun(workers, 3, make_settings())
    run.measure()
    first, second = latency_of(run, 0), latency_of(run, 1)
    assert (first.queries, second.queries) == (20, 20)
    assert workers[1].error is None
    workers[1].left = 0
    run = LatencyRun(workers, 3, make_settings())
    run.measure()
    assert run.raw(1) == {}
    assert latency_of(run).queries == 20

    reference = FakeWorker(make_bundle("float"), ages=(1, 2, 3))
    other = FakeWorker(make_bundle("int8", precision=INT8), ages=(1, 2, 3), fails_after=2)
    (itself, _), (drift, _) = measure_drift([reference, other], reference.bundle, samples)
    assert itself is not None
    assert drift is None
    assert other.error == "its process ended with SIGSEGV"


def test_without_its_reference_a_bundle_has_no_drift(samples: list[Sample]) -> None:
    reference = FakeWorker(make_bundle("float"), ages=(1, 2, 3), fails_after=1)
    other = FakeWorker(make_bundle("int8", precision=INT8), ages=(1, 2, 3))
    assert measure_drift([reference, other], reference.bundle, samples) == [
        (None, "its process ended with SIGSEGV"),
        (None, "its reference float failed, so its drift cannot be computed"),
    ]
    assert other.located == 2  # the reference located the first image, and then no more


def test_what_was_measured_before_an_interruption_is_kept(samples: list[Sample]) -> None:
    def interrupt(_step: str, share: float, _total: float | None) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    run = LatencyRun([FakeWorker(make_bundle("A"))], 3, make_settings())
    with pytest.raises(KeyboardInterrupt):
        run.measure(interrupt)
    assert latency_of(run).queries == 10

    reference = FakeWorker(make_bundle("float"), ages=(101, 60, 18))
    ages = AgeRun([reference], samples)
    count = itertools.count(1)

    def after_two(*_: object) -> None:
        if next(count) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ages.measure(after_two)
    ((drift, _),) = drifts_of(ages, [reference], reference.bundle, samples)
    assert drift is not None
    assert drift.samples == len(ages.done) == 2
    assert [row.id for row in drift.rows] == [sample.id for sample in ages.done]


def measured(ages: dict[str, float]) -> RawBundle:
    return RawBundle(readings=tuple(Reading(name, age) for name, age in ages.items()))


@pytest.mark.parametrize(
    ("readings", "said"),
    [
        (measured({"0": 100, "1": 60}), "no age for 1 of 3 images"),
        (measured({"0": 100, "1": 60, "9": 20}), "images that are not in the task"),
        (measured({"0": 100, "1": float("nan"), "2": 20}), "predicted nan months"),
        (
            RawBundle(readings=(*measured({"0": 100, "1": 60, "2": 20}).readings, Reading("2", 9))),
            "repeated ages",
        ),
    ],
)
def test_ages_that_are_not_usable_cost_their_bundle_an_error(
    samples: list[Sample], readings: RawBundle, said: str
) -> None:
    """A device may return anything; the other bundles keep their drift."""
    bundles = [make_bundle("fine"), make_bundle("broken", precision=INT8)]
    float_model = make_bundle("float", target="torch")
    fine = measured({"2": 21, "0": 101, "1": 60})
    answers = {"c1": measured({"0": 101, "1": 60, "2": 18}).readings}
    task = make_task(bundles, float_model, samples)
    (drift, error), broken = compute_drifts(task, Raw(read_host(), (fine, readings), answers))
    assert error is None
    assert drift is not None
    assert [row.bundle_months for row in drift.rows] == [101, 60, 21], "by id, not by place"
    assert (drift.reference, drift.is_reference, drift.blame) == ("float", False, ())
    assert broken.report is None
    assert said in (broken.error or "")


@pytest.mark.parametrize("stages", [{"total": [1]}, {"regress": [1], "total": [1, 2]}])
def test_times_that_do_not_belong_together_are_refused(stages: dict[str, list[int]]) -> None:
    with pytest.raises(VerificationError, match="returned incomplete times"):
        latency_report(RawBundle(stages_ns=stages))


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_statistics_match_plain_numpy(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    true, reference, bundle = generator.uniform(0, 240, (3, count))
    rows = [Sample(str(i), Path(), age, male=True) for i, age in enumerate(true.tolist())]
    report = compare(
        rows, reference, bundle, make_bundle("float"), is_reference=False, box_iou_mean=1.0
    )
    expected = np.abs(bundle - true).mean() - np.abs(reference - true).mean()
    assert report.drift_months == pytest.approx(expected, abs=1e-9)
    assert report.drift_months == pytest.approx(
        report.bundle_mae_months - report.float_mae_months, abs=1e-9
    )
    low, high = report.drift_ci95_months
    assert low <= report.drift_months + 1e-9
    assert low <= high
    change = report.mean_abs_change_months
    assert abs(report.drift_months) <= change + 1e-9  # |a| - |b| is never more than |a - b|
    assert report.p99_abs_change_months <= report.max_abs_change_months


def ages_and_males(samples: Sequence[Sample]) -> tuple[Floats, np.ndarray]:
    return np.array([s.age_months for s in samples]), np.array([s.male for s in samples])


def test_the_tails_of_age_are_groups_of_their_own() -> None:
    girls = [Sample(f"g{i}", Path(), age, male=False) for i, age in enumerate([20.0] * 12)]
    boys = [Sample(f"b{i}", Path(), 30.0, male=True) for i in range(10)]
    old = [Sample(f"o{i}", Path(), 210.0 + i, male=i == 0) for i in range(12)]
    few = [Sample(f"f{i}", Path(), 100.0, male=False) for i in range(9)]  # in no tail
    tails = tail_images(*ages_and_males([*girls, *boys, *old, *few]))
    found = [(t.sex, t.from_months, t.to_months, len(t.rows)) for t in tails]
    assert found == [("F", 0, 36, 12), ("F", 204, 240, 11), ("M", 0, 36, 10)]
    assert tail_images(*ages_and_males(few)) == []


def test_a_shift_of_the_youngest_girls_does_not_pass_the_gate() -> None:
    """They are too few for a group of three years: the bin is merged with the next ones."""
    generator = np.random.default_rng(4)
    stopped = 0
    for _ in range(10):
        true = np.concatenate([generator.uniform(10, 36, 14), generator.uniform(60, 220, 600)])
        males = np.arange(614) % 2 == 1
        samples = [
            Sample(str(i), Path(), float(age), bool(male))
            for i, (age, male) in enumerate(zip(true, males, strict=True))
        ]
        # 14 children under three years: 12 girls, who get 3 months older, and 2 boys
        samples[:14] = [s._replace(male=i < 2) for i, s in enumerate(samples[:14])]
        reference = true + generator.normal(0, 10, 614)
        bundle = reference + generator.normal(0, 0.5, 614)
        bundle[2:14] += 3
        report = compare(
            samples, reference, bundle, make_bundle("float"), is_reference=False, box_iou_mean=1.0
        )
        worst = max(group.mean_change_ci95_months[1] for group in report.groups)
        tail = max(group.mean_change_ci95_months[1] for group in report.tails)
        stopped += tail > 1.5
        assert tail > worst
    assert stopped == 10


def test_films_of_one_child_widen_the_intervals_and_are_numbered() -> None:
    generator = np.random.default_rng(11)
    child = np.repeat(np.arange(100), 4)
    true = np.repeat(generator.uniform(40, 200, 100), 4)
    shift = generator.normal(0, 1, 100)[child]
    alone = [Sample(str(i), Path(), age, male=i % 8 < 4) for i, age in enumerate(true.tolist())]
    shared = [s._replace(patient=f"p{c}") for s, c in zip(alone, child, strict=True)]
    wide, narrow = (
        compare(
            rows, true, true + shift, make_bundle("float"), is_reference=False, box_iou_mean=1.0
        )
        for rows in (shared, alone)
    )
    assert (wide.patients, narrow.patients) == (100, None)
    assert [row.patient for row in wide.rows] == child.tolist()
    for name in ("mean_change_ci95_months", "mean_abs_change_ci95_months"):
        assert np.ptp(getattr(wide, name)) > 1.6 * np.ptp(getattr(narrow, name))
    assert narrow.p99_abs_change_ci95_months is not None
    assert wide.p99_abs_change_ci95_months is None, "100 children are too few for a p99"
    assert all(g.patient is None for g in narrow.rows)
    ours, theirs = wide.groups[0], narrow.groups[0]
    assert np.ptp(ours.mean_change_ci95_months) > 1.6 * np.ptp(theirs.mean_change_ci95_months)


def test_groups_are_three_years_of_one_sex_and_small_ones_are_joined() -> None:
    ages = [*[20.0] * 5, *[50.0] * 30, *[100.0] * 20, *[150.0] * 19, *[230.0] * 40]
    girls = [Sample(str(i), Path(), age, male=False) for i, age in enumerate(ages)]
    boys = [Sample(f"b{i}", Path(), 100.0, male=True) for i in range(19)]
    samples = [*girls, *boys]
    groups = group_images(*ages_and_males(samples))
    found = [(g.sex, g.from_months, g.to_months, len(g.rows)) for g in groups]
    # Empty bins go first, to the 19; the 5 go to their only neighbour, the 19 to the smaller one.
    assert found == [("F", 0, 72, 35), ("F", 72, 216, 39), ("F", 216, 240, 40)]
    assert sorted(row for group in groups for row in group.rows.tolist()) == list(range(len(girls)))


def test_a_group_that_is_shifted_shows_it_and_others_do_not() -> None:
    generator = np.random.default_rng(3)
    true = generator.uniform(10, 230, 600)
    rows = [Sample(str(i), Path(), age, male=i % 2 == 0) for i, age in enumerate(true.tolist())]
    reference = true + generator.normal(0, 10, 600)
    males = np.arange(600) % 2 == 0
    shifted = males & (true >= 72) & (true < 108)
    bundle = reference + generator.normal(0, 0.5, 600) + 3 * shifted
    report = compare(
        rows, reference, bundle, make_bundle("float"), is_reference=False, box_iou_mean=1.0
    )
    moved = [group.name for group in report.groups if group.mean_change_ci95_months[0] > 0.5]
    assert moved == ["boys of 72 to 108 months"]
    assert abs(report.drift_months) < 0.25  # the MAE of all does not show it
    assert report.worst_group is not None
    changes = bundle - reference
    low, high = report.limits_of_agreement_months or (0, 0)
    assert (low + high) / 2 == pytest.approx(changes.mean())
    assert high - low == pytest.approx(2 * 1.96 * changes.std(ddof=1))
    assert report.mean_change_months == pytest.approx(changes.mean())
    assert report.mean_change_ci95_months is not None
    assert report.mean_change_ci95_months[0] < changes.mean() < report.mean_change_ci95_months[1]


def test_blame_splits_the_change_into_what_each_step_adds() -> None:
    torch = make_bundle("float", target="torch")
    onnx, onnx8 = make_bundle("onnx"), make_bundle("onnx8", precision=INT8)
    vino, vino8 = (make_bundle(n, "openvino", p) for n, p in (("ov", FP32), ("ov8", INT8)))
    vino16 = make_bundle("ov16", "openvino", Precision.FP16)
    bundles = [torch, onnx, onnx8, vino, vino8, vino16]
    true = np.zeros(4)
    months = {
        bundle.name: np.full(4, age)
        for bundle, age in zip(bundles, (10.0, 10.5, 12.0, 10.25, 13.0, 10.3), strict=True)
    }

    def steps(bundle: Bundle, among: list[Bundle]) -> list[tuple[str, str, str, float]]:
        found = attribute(bundle, torch, months, true, among)
        return [(s.step, s.before, s.after, round(s.drift_months, 6)) for s in found]

    assert steps(torch, bundles) == []
    assert steps(onnx, bundles) == [("conversion", "float", "onnx", 0.5)]
    assert steps(onnx8, bundles) == [
        ("conversion", "float", "onnx", 0.5),
        ("quantization", "onnx", "onnx8", 1.5),
    ]
    assert steps(vino8, bundles) == [
        ("conversion", "float", "ov", 0.25),
        ("quantization", "ov", "onnx8", 1.75),
        ("device", "onnx8", "ov8", 1.0),
    ]
    assert steps(vino16, bundles)[1:] == [("quantization", "ov", "ov16", 0.05)]
    assert steps(vino8, [torch, vino8]) == [("quantization", "float", "ov8", 3.0)]
    alien = make_bundle("onnx8", precision=INT8, checkpoint="c2")
    assert steps(vino8, [torch, alien, vino8]) == [("quantization", "float", "ov8", 3.0)]


def test_every_time_is_kept_and_comes_back_to_the_nanosecond() -> None:
    (report,) = measure_latency([FakeWorker(make_bundle("A"), 12.345678)], 3, make_settings())
    assert list(report.samples_ns()) == [12_345_678] * 20
    assert list(report.samples_ns("decode")) == [1_000_000] * 20
    with pytest.raises(InputError, match="no samples of stage 'polish'"):
        report.samples_ns("polish")
    times = [0, 1, 2**40, 7]
    assert list(unpack_samples(pack_samples(times), len(times))) == times
    others = pack_samples(times[1:]), pack_samples([*times, 1]), pack_samples([0] * 10**6)
    for damaged in ("?", "AAAA", pack_samples(times)[:-8], *others):
        with pytest.raises(InputError, match="damaged"):
            unpack_samples(damaged, len(times))


def test_the_same_bundle_with_other_threads_is_an_entry_of_a_sweep() -> None:
    run = LatencyRun(
        [FakeWorker(make_bundle("A")), FakeWorker(make_bundle("A"), 20)], 3, make_settings()
    )
    run.measure()
    report = latency_report(RawBundle(**run.raw(0), sweep=run.sweep([1])))
    assert report is not None
    (entry,) = report.sweep
    assert (entry.batch, entry.queries, entry.stages["total"].p50_ms) == (1, 20, 20)


def make_conditions(**values: int) -> Conditions:
    counters = {"total": 1000, "busy": 500, "stolen": 0, "throttled": 0, **values}
    return Conditions(**counters, own={1: 400})


def test_steady_times_are_not_warned_about() -> None:
    stability = judge(np.full(50, 10.0), None, None)
    assert (stability.score, stability.warning, stability.causes) == (100, None, ())


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"throttled": 3}, "heat: the CPU was throttled 3 times"),
        ({"stops": 7}, "the control group stopped the processes 7 times"),
        ({"stolen": 100}, "the hypervisor took 10 % of the CPU time"),
        ({"busy": 900}, "other programs took 30 % of the CPU time"),
    ],
)
def test_unsteady_times_come_with_their_likely_cause(after: dict[str, int], words: str) -> None:
    times = np.array([10.0, 15.0] * 25)
    before = make_conditions()
    later = make_conditions(**{"total": 2000, "busy": 600, **after})._replace(own={1: 500})
    stability = judge(times, before, later)
    assert stability.score == 0
    assert stability.warning is not None
    assert any(words in cause for cause in stability.causes), stability.causes


@pytest.mark.parametrize("queries", [60, 100, 1000])
@pytest.mark.parametrize(
    ("shape", "words", "tail"),
    [
        (lambda x: 1 + 0.2 * x, "latency rose by 1[4-9] %", None),  # a chip gets warm
        (lambda x: 1 + (x >= 0.8), "latency rose by (9.|10.) %", 0.8),
        (lambda x: 1 + 0.5 * (x < 0.2), "latency fell by 3. %", 0.2),
        (lambda x: 1 + 0.5 * ((x >= 0.4) & (x < 0.6)), "latency (rose|fell) by [35]. %", 0.6),
    ],
    ids=["ramp", "last fifth", "first fifth", "between"],
)
def test_a_run_whose_speed_changes_is_not_steady(
    shape: Callable[[Floats], Floats], words: str, tail: float | None, queries: int
) -> None:
    noise = 1 + 0.02 * np.random.default_rng(0).exponential(size=queries)
    times = 10 * shape(np.arange(queries) / queries) * noise
    stability = judge(times, None, None)
    assert re.search(f"not steady: {words}", stability.warning or "")
    if queries == 1000 and tail is not None:
        assert stability.steady_from == pytest.approx(tail * queries, abs=queries / 20)
    times_ns = [round(t * 1e6) for t in times]
    raw = RawBundle(stages_ns={"regress": times_ns, "total": times_ns})
    report = latency_report(raw)
    assert report is not None
    assert (report.steady_tail is None) == (stability.steady_from is None)
    if report.steady_tail is not None:
        last = report.steady_tail["total"].p50_ms
        assert last == pytest.approx(float(np.median(times[stability.steady_from :])))


def test_noise_alone_is_no_change_of_speed() -> None:
    noisy = [np.random.default_rng(seed).normal(10, 0.6, 200) for seed in range(100)]
    assert sum("not steady" in (judge(t, None, None).warning or "") for t in noisy) <= 3


def test_the_governor_is_named() -> None:
    before = make_conditions()._replace(governor="powersave")
    stability = judge(np.array([10.0, 15.0] * 25), before, make_conditions())
    assert "cpupower frequency-set -g performance" in stability.causes[0]


def test_counters_of_the_machine_are_read(tmp_path: Path) -> None:
    mine = f"proc/{os.getpid()}"
    throttle = "sys/devices/system/cpu/cpu0/thermal_throttle"
    for folder in (mine, "proc/7", throttle):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/stat").write_text("cpu  10 1 20 100 5 2 3 4 0 0\ncpu0 1\n")
    (tmp_path / throttle / "core_throttle_count").write_text("6\n")
    governor = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("schedutil\n")
    fields = " ".join(["S", *["0"] * 10, "30", "12", "0"])
    (tmp_path / mine / "stat").write_text(f"1 (a b) c) {fields}")
    (tmp_path / "proc/7/stat").write_text(f"7 (x) {fields}")
    group = tmp_path / "sys/fs/cgroup/job"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/cgroup").write_text("0::/job\n")
    (group / "cpu.stat").write_text("usage_usec 5\nnr_periods 9\nnr_throttled 8\n")
    found = read_conditions([7], tmp_path)
    assert found == Conditions(145, 36, 4, 6, {7: 42, os.getpid(): 42}, "schedutil", 8)
    assert read_conditions([8], tmp_path) is None


def test_energy_is_read_from_all_packages_and_runs_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_latency, "IDLE_S", 0.0)
    for zone, name, energy in (("0", "package-0", 900), ("0:0", "core", 5), ("1", "package-1", 10)):
        folder = tmp_path / f"intel-rapl:{zone}"
        folder.mkdir()
        for file, text in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", 1000)):
            (folder / file).write_text(f"{text}\n")
    meter = EnergyMeter(tmp_path)
    assert meter.available
    before = meter.read()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100\n")  # past its largest value
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("510\n")
    assert meter.joules(before, meter.read()) == pytest.approx((200 + 500) / 1e6)
    run = LatencyRun([FakeWorker(make_bundle("A"))], 3, make_settings(), meter)
    run.measure()
    energy = latency_of(run).energy
    assert energy is not None
    assert (energy.joules_per_query, energy.idle_watts) == (0, 0)


def test_energy_of_a_query_is_less_the_idle_power_with_its_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine of 4 W at rest and about 10 W at work, with queries of 50 ms."""
    generator = np.random.default_rng(0)

    class Meter:
        available = True

        def during(self, work: Callable[[], Any]) -> tuple[Any, float, float]:
            result = work()
            seconds = 0.05 * len(result) if result else 0.3
            return result, seconds * (generator.normal(10, 0.5) if result else 4.0), seconds

    monkeypatch.setattr(local_latency, "IDLE_S", 0.0)
    run = LatencyRun([FakeWorker(make_bundle("A"))], 3, make_settings(min_queries=400), Meter())
    run.measure()
    energy = latency_of(run).energy
    assert energy is not None
    assert energy.idle_watts == pytest.approx(4)
    assert energy.joules_per_query == pytest.approx((energy.watts - 4) * 0.05)
    low, high = energy.joules_ci95
    assert low < 0.3 < high
    assert high - low < 0.05


def test_the_interval_of_a_difference_of_readings_holds_it() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        found = difference_interval(generator.normal(7, 2, 60), generator.normal(4, 1, 30))
        held += found[0] <= 3 <= found[1]
    assert 0.92 <= held / 300 <= 0.985
    assert difference_interval(np.ones(4), np.ones(60)) is None


def test_without_a_sensor_there_is_no_energy(tmp_path: Path) -> None:
    assert not EnergyMeter(tmp_path).available
    run = LatencyRun([FakeWorker(make_bundle("A"))], 3, make_settings(), EnergyMeter(tmp_path))
    run.measure()
    assert latency_of(run).energy is None


def test_host_is_described() -> None:
    host = read_host()
    assert host.python == platform.python_version()
    assert 1 <= host.logical_cores <= (os.cpu_count() or 1)
    assert host.cpu
    assert set(host.isa) <= set(agent.INT8_FLAGS)
    assert host.versions["numpy"] == np.__version__
    assert "bakit" in host.versions


def test_cpuinfo_of_x86_and_of_arm() -> None:
    x86 = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 avx512_vnni avx\n"
    arm = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd42\n"
    assert agent.cpu_facts(x86) == ("Some CPU @ 2 GHz", ["avx2", "avx512_vnni"])
    assert agent.cpu_facts(arm) == ("", ["asimddp"])
    assert agent.cpu_facts("") == ("", [])
    first, second = "model name: A\n", "model name: B\n"
    assert agent.cpu_facts(first + second) == ("A", []), "the first core"
