"""A whole benchmark over bundles of the fake target, which stand on disk."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from bakit import targets
from bakit.backends.fake import FAKE
from bakit.bench import Gate, run_bench
from bakit.bench.local.process import Opened, Predicted, Seen, Worker, WorkerError
from bakit.bench.local.worker import Server, peak_rss_mb
from bakit.bench.report.latency import Footprint
from bakit.bundle import Artifact, Bundle, Golden, Manifest, write_manifest
from bakit.cli import main
from bakit.data.labels import read_samples
from bakit.data.splits import split, split_record
from bakit.errors import BundleError, ImageError, InputError, UnsupportedTargetError
from bakit.files import sha256
from bakit.image.box import Box
from bakit.runtime import STAGES, Runtime
from bakit.session import TensorSpec
from bakit.settings import Preprocessing, SplitRecord, UnrolledSettings
from bakit.types import Precision

if TYPE_CHECKING:
    from bakit.bench.report.document import Report
    from bakit.data.labels import Sample


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
    target: str = "fake",
    left: int = -1,
) -> Path:
    """Write a bundle of the fake target: it says ``age_months``, plus at most 2.

    ``left`` is after how many runs the regressor of the target ``crash`` crashes.
    """
    root.mkdir(parents=True)
    models = {
        "localizer": json.dumps({"age_months": 0.0}).encode(),
        "regressor": json.dumps(
            {"age_months": age_months} | ({"left": left} if left >= 0 else {})
        ).encode(),
    }
    for role, data in models.items():
        (root / f"{role}.json").write_bytes(data)
    (root / "golden.png").write_bytes(hand())
    settings, localizer = Preprocessing(96), UnrolledSettings()
    size, side = settings.image_size, localizer.size
    answer = Golden("golden.png", sha256(hand()), "F", age_months, age_months, None)
    answers = (answer,) if golden else ()
    manifest = Manifest(
        schema_version=1,
        target=target,
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


class LocalWorker:
    """Answers in this process what ``Worker`` answers in another: a second less for each bundle."""

    def __init__(self, bundle: Bundle, threads: int | None = None, **how: Any) -> None:
        self.bundle = bundle
        self.threads = threads
        self.pid = os.getpid()
        self.error: str | None = None
        self.runtime = runtime = Runtime(bundle, threads, **how)
        footprint = Footprint(1.0, 2.0, 3.0, 4.0)
        self.opened = Opened(runtime.provider, runtime.int8_share, footprint, runtime.executed)
        server = Server(self.runtime)
        self.load, self.run, self.server = server.load, server.run, server

    def ask(self, sample: Sample, seen: Seen | None = None) -> Predicted:
        return self.server.ask(sample.path, "M" if sample.male else "F", seen)

    def fail(self, reason: str) -> None:
        self.error = reason

    def __enter__(self) -> LocalWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.runtime.close()


PLUGIN = """
import dataclasses, json, os, signal, sys, time
from bakit.backends.fake import FAKE, FakeSession
from bakit.backends.fake import open_session as open_fake

CRASH = dataclasses.replace(FAKE, name="crash", backend="crashing")


def open_session(files, artifact, threads):
    print("a library may print")
    session = open_fake(files, artifact, threads)
    session.left = json.loads(files.read(artifact.path)).get("left", -1)
    run = session.run
    def counted(feeds):
        if session.left == 0:
            sys.stderr.write("about to fall\\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGSEGV)
        session.left -= 1
        return run(feeds)
    session.run = counted
    return session
"""


@pytest.fixture(autouse=True)
def _fake_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake target is known here, and bundles are opened here."""
    crash = dataclasses.replace(FAKE, name="crash")
    monkeypatch.setattr(targets, "_BUILT_IN", (*targets._BUILT_IN, FAKE, crash))
    monkeypatch.setattr("bakit.bench.local.run.Worker", LocalWorker)


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles are opened in processes of their own, which know the fake targets as plug-ins."""
    site = tmp_path / "site"
    info = site / "plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[bakit.targets]\nfake = bakit.backends.fake:FAKE\ncrash = crashing:CRASH\n"
    )
    (site / "crashing.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(site), str(Path.cwd()))))
    monkeypatch.setattr("bakit.bench.local.run.Worker", Worker)


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
    told: list[tuple[str, float, float | None]] = []
    report = run_bench(
        bundles,
        data,
        bundles[0],
        min_queries=20,
        min_duration_s=0,
        warm_up=1,
        on_progress=lambda *progress: told.append(progress),
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
    assert tuple(int8.latency.stages) == STAGES
    assert report.data is not None
    assert (report.data.folder, report.data.samples) == ("radiographs", 6)
    assert [step for step, done, total in told if done == total] == [
        "footprint",
        "latency",
        "drift",
    ]


def quick(bundles: list[Path], data: Path | None = None, **options: object) -> Report:
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

    less = write_data(tmp_path / "less", 29)  # the same images but one
    report = run_bench([bundle], less, bundle, None, 1, 0, 0)
    assert report.data is not None
    left = len({sample.id for sample in parts.test} & {s.id for s in read_samples(less)})
    assert (report.data.part, report.data.samples) == ("test", left)
    assert report.data.left_out == 29 - left


def test_without_data_drift_is_not_measured(bundles: list[Path]) -> None:
    report = run_bench(bundles, min_queries=1, min_duration_s=0, warm_up=0)
    assert report.data is None
    assert [bundle.drift for bundle in report.bundles] == [None, None]
    assert report.bundles[0].latency.images == 1  # one golden image, the same in both bundles


def test_wrong_input_is_said_before_anything_is_measured(
    bundles: list[Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object, **__: object) -> LocalWorker:
        pytest.fail("measured")

    monkeypatch.setattr("bakit.bench.local.run.Worker", measure)
    with pytest.raises(InputError, match="add --data"):
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
    with pytest.raises(InputError, match="two bundles have the name 'fake-fp32'"):
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


@pytest.mark.usefixtures("processes")
def test_a_bundle_in_a_process_of_its_own(bundles: list[Path], data: Path) -> None:
    """All numbers but the times are those of one process."""
    report = run_bench(bundles, data, bundles[0], None, 10, 0, 1, sweep_threads=[2])
    assert [bundle.error for bundle in report.bundles] == [None, None]
    for bundle in report.bundles:
        footprint = bundle.footprint
        assert footprint is not None
        assert footprint.cold_start_ms is not None
        assert footprint.cold_start_ms > footprint.load_ms + footprint.first_prediction_ms > 0
        assert bundle.latency is not None
        assert len(bundle.latency.samples_ns()) == bundle.latency.queries == 10
        assert [(entry.threads, entry.queries) for entry in bundle.latency.sweep] == [(2, 10)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bakit.bench.local.run.Worker", LocalWorker)
        local = run_bench(bundles, data, bundles[0], None, 10, 0, 1)
    assert [b.drift for b in report.bundles] == [b.drift for b in local.bundles]
    assert [b.provider for b in report.bundles] == ["fake", "fake"]


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(("left", "measured"), [(0, (0, 0)), (8, (1, 0)), (14, (1, 1))])
def test_a_bundle_that_crashes_is_reported_and_the_others_go_on(
    bundles: list[Path], data: Path, tmp_path: Path, left: int, measured: tuple[int, int]
) -> None:
    """It crashes at its first use, among the queries, or among the labelled images."""
    write_bundle(tmp_path / "crash", target="crash", precision=Precision.INT8, left=left)
    report = run_bench([*bundles, tmp_path / "crash"], data, bundles[0], None, 10, 0, 0)
    *fine, crashed = report.bundles
    assert crashed.error == "its process ended with SIGSEGV: about to fall"
    assert (crashed.footprint is not None, crashed.latency is not None) == measured
    assert crashed.drift is None
    assert [bundle.error for bundle in fine] == [None, None]
    assert all(bundle.drift and bundle.drift.samples == 6 for bundle in fine)
    assert all(bundle.latency and bundle.latency.queries == 10 for bundle in fine)
    result = Gate().check(report)
    assert "about to fall" in result.bundles[2].failures[0]
    assert result.bundles[2].outcome == "fail"


@pytest.mark.usefixtures("processes")
def test_where_all_bundles_fail_there_is_nothing_to_report(tmp_path: Path) -> None:
    crash = write_bundle(tmp_path / "crash", target="crash", left=0)
    with pytest.raises(BundleError, match=r"crash: .*SIGSEGV.*no bundle could be measured"):
        quick([crash])
    with pytest.raises(BundleError, match="no golden image"):
        quick(
            [write_bundle(tmp_path / "bare", golden=False)],
            write_data(tmp_path / "r", 2),
            reference=tmp_path / "bare",
        )


@pytest.mark.usefixtures("processes")
def test_errors_of_a_process_are_those_of_the_input(
    bundles: list[Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Worker(Bundle.read(bundles[0])) as worker:
        (data / "images" / "1.png").write_bytes(b"no image")
        with pytest.raises(ImageError, match=r"1\.png"):
            worker.ask(read_samples(data)[1], Seen(None, Box(0, 0, 9, 9)))
    with Worker(Bundle.read(bundles[0])) as worker:
        assert worker.error is None
        os.kill(worker.pid, signal.SIGKILL)  # as where memory runs out
        with pytest.raises(WorkerError, match="its process ended with SIGKILL"):
            worker.run([0])
    with Worker(Bundle.read(bundles[0])) as worker:
        monkeypatch.setattr(Worker._answer, "__defaults__", (0.5,))
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(WorkerError, match="its process gave no answer"):
            worker.run([0])


def test_a_reference_that_failed_leaves_no_drift(
    bundles: list[Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(LocalWorker):
        def ask(self, sample: Sample, seen: Seen | None = None) -> Predicted:
            if self.bundle.name == "fake-fp32":
                self.fail("out of memory")
                raise WorkerError
            return super().ask(sample, seen)

    monkeypatch.setattr("bakit.bench.local.run.Worker", Failing)
    reference, int8 = quick(bundles, data, reference=bundles[0]).bundles
    assert (reference.error, reference.drift, int8.drift) == ("out of memory", None, None)
    assert int8.error == "its reference fake-fp32 failed, so its drift cannot be computed"


@pytest.mark.parametrize("stage", ["footprint", "latency", "drift"])
def test_ctrl_c_keeps_what_was_measured(bundles: list[Path], data: Path, stage: str) -> None:
    def interrupt(now: str, done: float, total: float | None) -> None:
        if now == stage and done >= 0.5 * (total or 1):
            raise KeyboardInterrupt

    report = run_bench(bundles, data, bundles[0], None, 20, 0, 0, on_progress=interrupt)
    assert report.partial
    first = report.bundles[0]
    assert (first.footprint is None, first.latency is None, first.drift is None) == {
        "footprint": (False, True, True),
        "latency": (False, False, True),
        "drift": (False, False, False),
    }[stage]
    assert report.bundles[1].error is None
    assert (report.data.samples if report.data else 0) == (3 if stage == "drift" else 0)
    with pytest.raises(InputError, match="interrupted run: bench again"):
        Gate().check(report)


def test_where_a_bundle_comes_from_is_in_the_report(bundles: list[Path]) -> None:
    report = quick(bundles[:1])
    provenance = report.bundles[0].provenance
    assert provenance is not None
    assert provenance.checkpoint_sha256 == "c1"
    assert set(provenance.files_sha256) == {"localizer.json", "regressor.json"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report.measured_at or "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak apart")
def test_the_peak_is_the_process_own_and_not_its_parents() -> None:
    code = "from bakit.bench.local.worker import peak_rss_mb; print(peak_rss_mb())"
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


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, words)])


def test_the_command_prints_tables_and_writes_the_report(
    bundles: list[Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # bakit-bundles/ is here
    result = run("--data", data, "--reference", bundles[0], "--json", "r.json", *QUICK)
    assert result.exit_code == 0, result.output
    for words in ("fake-int8", "reference: fake-fp32 (fake)", "drift on 6 of 6", "report: r.json"):
        assert words in result.stdout
    assert result.stderr == "next: bakit gate r.json\n"  # no progress bar: stderr is no terminal
    assert json.loads((tmp_path / "r.json").read_bytes())["schema_version"] == 2


def test_the_command_prints_json_alone(bundles: list[Path]) -> None:
    result = run(*bundles, "--json", "-", *QUICK)
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["bundles"]) == 2


def test_the_command_says_that_drift_was_not_measured(bundles: list[Path]) -> None:
    result = run(bundles[0], *QUICK)
    assert "Drift was not measured" in result.stdout
    assert "next: bakit bench --data DATA" in result.stderr


def test_the_command_without_any_bundle_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run()
    assert result.exit_code == 2
    assert "bakit export --target onnx" in result.stderr


def test_a_file_that_does_both_roles_counts_once(bundles: list[Path]) -> None:
    bundle = Bundle.read(bundles[0])
    localizer, regressor = bundle.manifest.artifacts
    shared = msgspec.structs.replace(localizer, path=regressor.path, sha256=regressor.sha256)
    manifest = msgspec.structs.replace(bundle.manifest, artifacts=(shared, regressor))
    write_manifest(bundles[0], manifest)
    report = run_bench(bundles[:1], min_queries=1, min_duration_s=0, warm_up=0).bundles[0]
    assert report.size_mb["localizer"] == report.size_mb["regressor"] == report.total_size_mb
