"""A whole benchmark over bundles of the fake target, which stand on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from bakit import targets
from bakit.backends.fake import FAKE
from bakit.bench import footprint as footprint_module
from bakit.bench import run_bench
from bakit.bench.footprint import footprint_here, measure_footprint, peak_rss_mb
from bakit.bench.report import Footprint
from bakit.bundle import Artifact, Bundle, Golden, Manifest, write_manifest
from bakit.cli.bench import command
from bakit.dataset import read_samples, split, split_record
from bakit.errors import BundleError, ImageError, InputError, UnsupportedTargetError
from bakit.files import sha256
from bakit.settings import Preprocessing, SplitRecord, UnrolledSettings
from bakit.targets import Precision
from bakit.tensors import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path


def hand() -> bytes:
    image = np.full((64, 48), 20, np.uint8)
    image[16:56, 12:36] = 200
    image[16:40:8, 14:34] = 120
    return cv2.imencode(".png", image)[1].tobytes()


def write_bundle(
    root: Path,
    age_months: float = 100.0,
    precision: Precision = Precision.FP32,
    *,
    golden: bool = True,
    record: SplitRecord | None = None,
) -> Path:
    """Write a bundle of the fake target: it says ``age_months``, plus at most 2."""
    root.mkdir(parents=True)
    models = {
        "localizer": json.dumps({"age_months": 0.0}).encode(),
        "regressor": json.dumps({"age_months": age_months}).encode(),
    }
    for role, data in models.items():
        (root / f"{role}.json").write_bytes(data)
    (root / "golden.png").write_bytes(hand())
    settings, localizer = Preprocessing(), UnrolledSettings()
    size, side = settings.image_size, localizer.size
    answer = Golden("golden.png", sha256(hand()), "F", age_months, age_months, None)
    answers = (answer,) if golden else ()
    manifest = Manifest(
        schema_version=1,
        target="fake",
        precision=precision,
        artifacts=(
            Artifact(
                "localizer",
                "localizer.json",
                sha256(models["localizer"]),
                (TensorSpec("image", (1, 1, side, side)),),
                (TensorSpec("labels", (side, side), "int32"),),
            ),
            Artifact(
                "regressor",
                "regressor.json",
                sha256(models["regressor"]),
                (TensorSpec("image", (1, 1, size, size)), TensorSpec("sex", (1, 1))),
                (TensorSpec("age_months", (1, 1)),),
            ),
        ),
        preprocessing=settings,
        localizer=localizer,
        localizer_form="loop",
        output_unit="months",
        checkpoint="fake",
        checkpoint_sha256="c1",
        calibration=None,
        calibration_sha256=None,
        golden=answers,
        tolerance_months=2.0,
        tool_versions={},
        training_data="none",
        split=record,
    )
    write_manifest(root, manifest)
    return root


@pytest.fixture(autouse=True)
def _fake_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake target is known here, but not to a fresh process: that one is not started."""
    monkeypatch.setattr(targets, "_BUILT_IN", (*targets._BUILT_IN, FAKE))
    monkeypatch.setattr(
        "bakit.bench.run.measure_footprint", lambda bundle, threads: Footprint(1.0, 2.0, 3.0)
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "radiographs", 6)


def write_data(folder: Path, count: int) -> Path:
    (folder / "images").mkdir(parents=True)
    rows = ["id,boneage,male"]
    for index in range(count):
        (folder / "images" / f"{index}.png").write_bytes(hand())
        rows.append(f"{index},{100 + index},{index % 2 == 0}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    float_bundle = write_bundle(tmp_path / "bakit-bundles" / "fake-fp32")
    int8 = write_bundle(tmp_path / "bakit-bundles" / "fake-int8", 103.0, Precision.INT8)
    return [float_bundle, int8]


def test_a_whole_benchmark(bundles: list[Path], data: Path) -> None:
    told: list[tuple[str, float]] = []
    report = run_bench(
        bundles,
        data,
        bundles[0],
        min_queries=20,
        min_duration_s=0,
        warm_up=1,
        on_stage=lambda stage, share: told.append((stage, share)),
    )
    reference, int8 = report.bundles
    assert (reference.name, int8.name) == ("fake-fp32", "fake-int8")
    assert reference.drift is not None
    assert int8.drift is not None
    assert reference.drift.is_reference
    assert reference.drift.drift_months == 0
    assert int8.drift.mean_abs_change_months == pytest.approx(3, abs=1e-4)
    assert int8.drift.box_iou_mean == 1
    assert [row.id for row in int8.drift.rows] == list("012345")
    assert int8.size_mb == {"localizer": 19e-6, "regressor": 21e-6}
    assert int8.total_size_mb == pytest.approx(40e-6)
    assert int8.latency.queries == 20
    assert int8.latency.images == 6
    assert list(int8.latency.stages) == ["decode", "localize", "preprocess", "regress", "total"]
    assert report.data is not None
    assert (report.data.folder, report.data.samples) == ("radiographs", 6)
    assert [stage for stage, share in told if share == 1] == ["footprint", "latency", "drift"]


def quick(bundles: list[Path], data: Path | None = None, **options: object) -> object:
    return run_bench(bundles, data, min_queries=1, min_duration_s=0, warm_up=0, **options)  # type: ignore[arg-type]


def test_the_reference_is_measured_with_the_others_and_only_once(
    bundles: list[Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run_bench([bundles[1]], data, bundles[0], None, 1, 0, 0)
    assert [bundle.name for bundle in report.bundles] == ["fake-int8", "fake-fp32"]
    monkeypatch.chdir(bundles[0].parent)
    report = run_bench([bundles[0], *bundles], data, "fake-fp32", None, 1, 0, 0)
    assert [bundle.name for bundle in report.bundles] == ["fake-fp32", "fake-int8"]


def test_a_limit_thins_the_images_evenly(bundles: list[Path], data: Path) -> None:
    report = run_bench([bundles[0]], data, bundles[0], 3, 1, 0, 0)
    assert report.bundles[0].drift is not None
    assert [row.id for row in report.bundles[0].drift.rows] == ["0", "2", "4"]
    assert report.data is not None
    assert (report.data.samples, report.data.available) == (3, 6)
    report = run_bench([bundles[0]], data, bundles[0], 100, 1, 0, 0)
    assert report.data is not None
    assert report.data.samples == 6


def test_of_its_own_training_folder_only_the_test_part_is_used(tmp_path: Path) -> None:
    """Scores on training images say nothing."""
    folder = write_data(tmp_path / "radiographs", 30)
    parts = split(read_samples(folder), 5)
    bundle = write_bundle(tmp_path / "trained", record=split_record(parts, 5, ()))
    report = run_bench([bundle], folder, bundle, None, 1, 0, 0)
    assert report.data is not None
    assert (report.data.part, report.data.samples) == ("test", 3)
    assert report.bundles[0].drift is not None
    used = {row.id for row in report.bundles[0].drift.rows}
    assert used == {sample.id for sample in parts.test}

    other = write_data(tmp_path / "other", 29)
    report = run_bench([bundle], other, bundle, None, 1, 0, 0)
    assert report.data is not None
    assert (report.data.part, report.data.samples) == ("all", 29)


def test_without_data_drift_is_not_measured(bundles: list[Path]) -> None:
    report = run_bench(bundles, min_queries=1, min_duration_s=0, warm_up=0)
    assert report.data is None
    assert [bundle.drift for bundle in report.bundles] == [None, None]
    assert report.bundles[0].latency.images == 1  # one golden image, the same in both bundles


def test_wrong_input_is_said_before_anything_is_measured(
    bundles: list[Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object) -> Footprint:
        pytest.fail("measured")

    monkeypatch.setattr("bakit.bench.run.measure_footprint", measure)
    with pytest.raises(InputError, match="give --data"):
        quick(bundles, reference=bundles[0])
    with pytest.raises(InputError, match="no float reference"):
        quick([bundles[1]], data)
    with pytest.raises(InputError, match="no bundle to measure"):
        quick([])
    with pytest.raises(InputError, match="limit=0"):
        quick(bundles, data, limit=0)
    with pytest.raises(InputError, match="threads=0"):
        quick(bundles, threads=0)
    for name, value in {"min_queries": 0, "warm_up": -1, "min_duration_s": float("inf")}.items():
        with pytest.raises(InputError, match=name):
            run_bench(bundles, **{name: value})  # type: ignore[arg-type]
    twin = write_bundle(tmp_path / "elsewhere" / "fake-fp32")
    with pytest.raises(InputError, match="two bundles are called 'fake-fp32'"):
        quick([*bundles, twin])
    with pytest.raises(InputError, match="no golden images"):
        quick([write_bundle(tmp_path / "bare", golden=False)])
    (data / "images" / "0.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"0\.png"):
        quick(bundles, data, reference=bundles[0])


def test_an_unknown_target_is_said_before_anything_is_measured(
    bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "_BUILT_IN", ())
    with pytest.raises(UnsupportedTargetError, match="fake"):
        quick(bundles)


def test_footprint_in_this_process(bundles: list[Path], tmp_path: Path) -> None:
    footprint = footprint_here(bundles[0])
    assert footprint.load_ms > 0
    assert footprint.first_prediction_ms > 0
    with pytest.raises(BundleError, match="no golden image"):
        footprint_here(write_bundle(tmp_path / "bare", golden=False))


def test_footprint_prints_one_object(
    bundles: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert footprint_module.main([str(bundles[0]), "1"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"load_ms", "first_prediction_ms", "peak_rss_mb"}


def test_a_fresh_process_that_fails_says_why(bundles: list[Path]) -> None:
    with pytest.raises(BundleError, match="exit status 2: unknown target 'fake'"):
        measure_footprint(Bundle.read(bundles[0]), threads=1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak apart")
def test_the_peak_is_the_process_own_and_not_its_parents() -> None:
    code = "from bakit.bench.footprint import peak_rss_mb; print(peak_rss_mb())"
    ballast = np.ones(400 * 2**20 // 8)
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    mine = peak_rss_mb()
    assert mine is not None
    assert mine > ballast.nbytes / 1e6
    assert 20 < float(child.stdout) < 300


def test_importing_the_package_imports_no_numpy() -> None:
    code = (
        "import sys, bakit.bench, bakit.cli.bench, bakit.cli.gate\n"
        "print([m for m in ('numpy', 'cv2', 'rich', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


QUICK = ("--queries", "1", "--seconds", "0")


def test_the_command_prints_tables_and_writes_the_report(
    bundles: list[Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # bakit-bundles/ is here
    result = CliRunner().invoke(
        command, ["--data", str(data), "--reference", str(bundles[0]), "--json", "r.json", *QUICK]
    )
    assert result.exit_code == 0, result.output
    for words in ("fake-int8", "reference: fake-fp32 (fake)", "drift on 6 of 6", "report: r.json"):
        assert words in result.stdout
    assert result.stderr == ""  # no progress bar: stderr is no terminal
    assert json.loads((tmp_path / "r.json").read_bytes())["schema_version"] == 1


def test_the_command_prints_json_alone(bundles: list[Path]) -> None:
    result = CliRunner().invoke(command, [*map(str, bundles), "--json", "-", *QUICK])
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["bundles"]) == 2


def test_the_command_says_that_drift_was_not_measured(bundles: list[Path]) -> None:
    result = CliRunner().invoke(command, [str(bundles[0]), *QUICK])
    assert "drift was not measured: give labelled images with --data" in result.stdout


def test_the_command_without_any_bundle_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, [])
    assert isinstance(result.exception, InputError)
    assert "bakit export --target onnx" in str(result.exception)


def test_a_file_that_does_both_roles_counts_once(bundles: list[Path]) -> None:
    bundle = Bundle.read(bundles[0])
    localizer, regressor = bundle.manifest.artifacts
    shared = msgspec.structs.replace(localizer, path=regressor.path, sha256=regressor.sha256)
    manifest = msgspec.structs.replace(bundle.manifest, artifacts=(shared, regressor))
    write_manifest(bundles[0], manifest)
    report = run_bench(bundles[:1], min_queries=1, min_duration_s=0, warm_up=0).bundles[0]
    assert report.size_mb["localizer"] == report.size_mb["regressor"] == report.total_size_mb
