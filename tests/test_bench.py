"""Latency, drift and host: against hand-computed values, without a model."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakit.bench.drift import (
    bootstrap_interval,
    choose_references,
    compare,
    measure_drift,
)
from bakit.bench.host import INT8_FLAGS, cpu_model, isa_flags, read_host
from bakit.bench.latency import Query, measure_latency, stage_times
from bakit.bench.report import Settings
from bakit.bundle import Artifact, Bundle, Manifest
from bakit.dataset import Sample
from bakit.errors import ImageError, InputError, VerificationError
from bakit.geometry import Box
from bakit.runtime import STAGES, Prediction, Quality, Runtime
from bakit.settings import Preprocessing, UnrolledSettings
from bakit.targets import Precision

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.preprocess import Grey
    from bakit.runtime import Sex

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


class FakeRuntime(Runtime):
    """Counts its calls, takes the time that it is told, and answers from a list."""

    def __init__(
        self,
        bundle: Bundle,
        total_ms: float = 10.0,
        log: list[str] | None = None,
        ages: tuple[float, ...] = (100.0,),
        box: Box | None = None,
    ) -> None:
        self.bundle = bundle
        self.total_ms = total_ms
        self.log = [] if log is None else log
        self.ages = list(ages)
        self.box = box
        self.images: list[tuple[object, Sex]] = []
        self.located = 0

    def predict(self, image: str | Path | bytes | npt.NDArray[np.generic], sex: Sex) -> Prediction:
        self.log.append(self.bundle.name)
        self.images.append((image, sex))
        # 1 + 2 + 3 + the rest: every stage can be told from the others.
        times = (1.0, 2.0, 3.0, self.total_ms - 6, self.total_ms)
        return Prediction(
            age_months=self.ages[0],
            interval_months=None,
            box=Box(0, 0, 1, 1),
            quality=Quality("accept"),
            stages_ms=dict(zip(STAGES, times, strict=True)),
            target="onnx",
            precision="fp32",
            provider="fake",
            bundle_sha256="",
        )

    def locate(self, grey: Grey) -> Box | None:
        del grey
        self.located += 1
        return self.box

    def preprocess(self, grey: Grey, box: Box | None) -> Grey:
        del box
        return grey

    def regress(self, pixels: Grey, *, male: bool) -> float:
        del pixels, male
        return self.ages.pop(0)


def make_settings(
    min_queries: int = 20, min_duration_s: float = 0.0, warm_up: int = 0, block: int = 5
) -> Settings:
    return Settings(min_queries, min_duration_s, warm_up, block, None, 2000, 0)


QUERIES = [Query(b"a", "M"), Query(b"b", "F"), Query(b"c", "M")]


def test_bundles_take_turns_in_blocks() -> None:
    log: list[str] = []
    runtimes = [FakeRuntime(make_bundle(name), log=log) for name in "AB"]
    shares: list[float] = []
    reports = measure_latency(runtimes, QUERIES, make_settings(), shares.append)
    assert "".join(log) == "AAAAAABBBBBB" * 4  # one uncounted and five counted, in turns
    assert [report.queries for report in reports] == [20, 20]
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert runtimes[0].images == runtimes[1].images  # ratios compare like with like


def test_one_bundle_alone_has_no_uncounted_queries_after_its_warm_up() -> None:
    runtime = FakeRuntime(make_bundle("A"))
    (report,) = measure_latency([runtime], QUERIES, make_settings(warm_up=7))
    assert len(runtime.log) == 7 + 20
    assert (report.warm_up, report.queries, report.images) == (7, 20, 3)
    assert runtime.images[7:] == [QUERIES[index % 3] for index in range(20)]


@pytest.mark.parametrize(
    ("min_queries", "min_duration_s", "queries"),
    [(20, 0.0, 20), (20, 1.0, 100), (200, 1.0, 200), (1, 0.0, 1)],
)
def test_both_least_queries_and_least_duration_are_met(
    min_queries: int, min_duration_s: float, queries: int
) -> None:
    runtime = FakeRuntime(make_bundle("A"), total_ms=10)
    (report,) = measure_latency([runtime], QUERIES, make_settings(min_queries, min_duration_s))
    assert report.queries == queries
    assert report.duration_s == pytest.approx(queries * 0.010)


def test_the_fastest_bundle_decides_when_the_duration_is_met() -> None:
    runtimes = [FakeRuntime(make_bundle("A"), 10), FakeRuntime(make_bundle("B"), 40)]
    fast, slow = measure_latency(runtimes, QUERIES, make_settings(20, 1.0))
    assert fast.queries == slow.queries == 100
    assert slow.duration_s == pytest.approx(4 * fast.duration_s)


def test_each_stage_is_summarised() -> None:
    (report,) = measure_latency([FakeRuntime(make_bundle("A"))], QUERIES, make_settings())
    medians = {stage: times.p50_ms for stage, times in report.stages.items()}
    expected = {"decode": 1, "localize": 2, "preprocess": 3, "regress": 4, "total": 10}
    assert medians == expected


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
    with pytest.raises(InputError, match="none of the other bundles"):
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
    reference = FakeRuntime(make_bundle("float"), ages=(101, 60, 18), box=Box(0, 0, 20, 40))
    bundle = FakeRuntime(
        make_bundle("int8", precision=INT8, localizer="l2"), ages=(103, 56, 21), box=None
    )
    done: list[None] = []
    runtimes = [bundle, reference]
    drift, itself = measure_drift(
        runtimes, {"c1": reference.bundle}, samples, lambda: done.append(None)
    )
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
    reference = FakeRuntime(make_bundle("float"), ages=(1, 2, 3))
    same = FakeRuntime(make_bundle("int8", precision=INT8), ages=(1, 2, 3))
    other = FakeRuntime(make_bundle("torch", target="torch"), ages=(1, 2, 3))
    measure_drift([reference, same, other], {"c1": reference.bundle}, samples)
    assert (reference.located, same.located, other.located) == (3, 0, 3)


def test_an_unreadable_image_is_not_skipped(samples: list[Sample]) -> None:
    samples[1].path.write_bytes(b"no image")
    runtime = FakeRuntime(make_bundle("float"), ages=(1, 2, 3))
    with pytest.raises(ImageError, match=r"1\.png"):
        measure_drift([runtime], {"c1": runtime.bundle}, samples)


@pytest.mark.parametrize("age", [float("nan"), float("inf")])
def test_an_age_that_is_no_number_is_not_averaged(samples: list[Sample], age: float) -> None:
    runtime = FakeRuntime(make_bundle("float"), ages=(1, age, 3))
    with pytest.raises(VerificationError, match=r"float: says (nan|inf) months for .*1\.png"):
        measure_drift([runtime], {"c1": runtime.bundle}, samples)


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


def test_the_interval_is_that_of_the_normal_theory_and_repeats() -> None:
    differences = np.random.default_rng(1).normal(0.4, 2.0, 2000)
    low, high = bootstrap_interval(differences)
    mean, half = differences.mean(), 1.96 * differences.std() / np.sqrt(2000)
    assert low == pytest.approx(mean - half, abs=0.15 * half)
    assert high == pytest.approx(mean + half, abs=0.15 * half)
    assert bootstrap_interval(differences) == (low, high)
    assert bootstrap_interval(differences, seed=1) != (low, high)


def test_the_interval_contains_the_true_mean_about_95_times_in_100() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_interval(generator.normal(0.3, 1.0, 80), resamples=500)
        hits += low <= 0.3 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_the_interval_does_not_depend_on_how_resamples_are_chunked() -> None:
    differences = np.random.default_rng(2).normal(0, 1, 37)
    drawn = np.random.default_rng(0).integers(37, size=(250, 37))
    expected = np.percentile(differences[drawn].mean(axis=1), (2.5, 97.5))
    assert bootstrap_interval(differences, resamples=250) == pytest.approx(tuple(expected))


def test_host_is_described() -> None:
    host = read_host()
    assert host.python == platform.python_version()
    assert 1 <= host.logical_cores <= (os.cpu_count() or 1)
    assert host.cpu
    assert set(host.isa) <= set(INT8_FLAGS)
    assert host.versions["numpy"] == np.__version__
    assert "bakit" in host.versions


def test_cpuinfo_of_x86_and_of_arm() -> None:
    x86 = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 avx512_vnni avx\n"
    arm = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd42\n"
    assert cpu_model(x86) == "Some CPU @ 2 GHz"
    assert isa_flags(x86) == ("avx2", "avx512_vnni")
    assert cpu_model(arm) == ""
    assert isa_flags(arm) == ("asimddp",)
    assert isa_flags("") == ()
