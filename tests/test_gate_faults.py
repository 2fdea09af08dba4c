"""Faults put into the INT8 model, each caught by ``bakit gate`` with its defaults."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from bakit.calib.dataset import CalibrationSet
from bakit.calib.ranges import ranges_on
from bakit.cli import main
from bakit.data.labels import read_samples
from bakit.hand.prepare import crop
from bakit.image.read import decode
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.phantoms import write_phantoms
from tests.benchmarks import gate_faults as faults

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.bench import Report
    from bakit.types import Grey

BOX = ("x0", "y0", "x1", "y1")
PHANTOMS, VARIANTS, CALIBRATION = 36, 6, 8
CHANGE_MONTHS = 0.6


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """Return the report of the sound INT8 model and of each fault.

    The shipped model on phantoms, each in some variants; its ranges are those of phantoms too.
    """
    checkpoint = Checkpoint.read(SHIPPED)
    folder = write_phantoms(tmp_path_factory.mktemp("faults") / "phantoms", PHANTOMS, height=224)
    generator = np.random.default_rng(0)
    with (folder / "labels.csv").open(newline="") as table:
        boxes = {row["id"]: [int(float(row[k])) for k in BOX] for row in csv.DictReader(table)}
    samples, pixels = [], []
    for variant in range(VARIANTS):
        for sample in read_samples(folder):
            x0, y0, x1, y1 = boxes[sample.id]
            image = moved(decode(sample.path)[y0:y1, x0:x1], generator)
            samples.append(sample._replace(id=f"{sample.id}-{variant}"))
            pixels.append(crop(image, None, False, checkpoint.header.preprocessing))
    calibration = CalibrationSet(samples[:CALIBRATION], pixels[:CALIBRATION])
    images = CalibrationSet(samples[CALIBRATION:], pixels[CALIBRATION:])
    ranges = ranges_on(checkpoint, calibration)
    ages = faults.int8_ages(checkpoint, ranges, calibration, images)
    # INT8 changes the ages of phantoms more than those of films, by up to years. So the float
    # model's ages are drawn: they differ from INT8's as on the films of the test part.
    ages["float"] = ages[faults.SOUND] + generator.normal(0, CHANGE_MONTHS, len(images.samples))
    return faults.reports(images.samples, ages)


def moved(grey: Grey, generator: np.random.Generator) -> Grey:
    """Return a picture that was taken a little otherwise."""
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D(
        (width / 2, height / 2), *generator.uniform((-5, 0.95), (5, 1.05))
    )
    turned = cv2.warpAffine(grey, turn, (width, height))
    return np.clip(turned ** generator.uniform(0.9, 1.1), 0, 1).astype(np.float32)


def gate(folder: Path, report: Report) -> tuple[int, dict[str, dict[str, str]]]:
    report.write(folder / "report.json")
    options = ("--json", "--max-p99-change-months", "none")
    result = CliRunner().invoke(main, ["gate", str(folder / "report.json"), *options])
    (bundle,) = json.loads(result.stdout)["bundles"]
    return result.exit_code, {check["limit"]: check for check in bundle["checks"]}


def test_the_sound_model_fails_nothing(reports: dict[str, Report], tmp_path: Path) -> None:
    """On the children of its test part it passes every limit; on phantoms some stay undecided."""
    _, checks = gate(tmp_path, reports[faults.SOUND])
    assert {check["outcome"] for check in checks.values()} <= {"pass", "too-few-images"}, checks
    assert checks["max_drift_months"]["outcome"] == "pass"


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_is_caught(reports: dict[str, Report], tmp_path: Path, fault: str) -> None:
    status, checks = gate(tmp_path, reports[fault])
    assert status == 1
    assert "fail" in {check["outcome"] for check in checks.values()}, checks


def test_the_group_that_is_off_is_named(reports: dict[str, Report], tmp_path: Path) -> None:
    _, checks = gate(tmp_path, reports[faults.GROUP])
    assert checks["max_group_change_months"]["outcome"] == "fail"
    assert checks["max_group_change_months"]["groups"][0].startswith("girls of ")
