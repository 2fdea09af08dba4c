"""Images that a model was trained on are recognized in any folder, and other images are not."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bakit.bench.task import read_data
from bakit.calib.select import calibration_samples
from bakit.cli import main
from bakit.data.images import refuse_calibration_images
from bakit.data.labels import Sample
from bakit.data.overlap import count_hashes, id_hashes, shared_ids
from bakit.data.splits import known_split, split, split_record, take_part
from bakit.errors import InputError
from bakit.model.checkpoint import TrainingRecord

if TYPE_CHECKING:
    from bakit.model.checkpoint import Checkpoint
    from tests.conftest import Labelled


def films(first: int, count: int, seed: int = 0) -> list[Sample]:
    generator = np.random.default_rng(seed)
    return [
        Sample(
            str(first + n), Path(f"{first + n}.png"), float(age), male=bool(generator.integers(2))
        )
        for n, age in enumerate(generator.integers(12, 220, count))
    ]


FOLDER = films(1000, 200)
PARTS = split(FOLDER, 3)
RECORD = split_record(PARTS, 3, ())
SEEN = {sample.id for sample in (*PARTS.train, *PARTS.validation)}


@given(
    dropped=st.sets(st.integers(0, 199), max_size=150),
    foreign=st.integers(0, 40),
    relabelled=st.sets(st.integers(0, 199), max_size=50),
)
@settings(max_examples=40, deadline=None)
def test_a_changed_training_folder_is_used_for_what_was_never_trained_on(
    dropped: set[int], foreign: int, relabelled: set[int]
) -> None:
    kept = [
        sample._replace(age_months=sample.age_months + 6) if n in relabelled else sample
        for n, sample in enumerate(FOLDER)
        if n not in dropped
    ]
    others = films(5000, foreign, seed=1)
    usable = take_part([*kept, *others], [RECORD])
    changed = [n for n in range(200) if n in relabelled and n not in dropped]
    if 2 * len(changed) > len(kept):
        return  # the labels of most images differ: these are other images of the same ids
    assert usable is not None
    assert {s.id for s in usable}.isdisjoint(SEEN)
    assert {s.id for s in usable} == {s.id for s in (*kept, *others)} - SEEN


@pytest.mark.parametrize("change", ["less one row", "one row more"])
def test_one_row_does_not_switch_the_guard_off(change: str) -> None:
    samples = FOLDER[1:] if change == "less one row" else [*FOLDER, *films(9000, 1)]
    usable = take_part(samples, [RECORD])
    assert usable is not None
    assert SEEN.isdisjoint(s.id for s in usable)
    parts = known_split(samples, RECORD)
    assert parts is not None
    assert {s.id for s in parts.train} <= {s.id for s in PARTS.train}


def test_images_of_another_hospital_with_the_same_numbers_are_other_images() -> None:
    others = films(1000, 190, seed=7)
    usable = take_part(others, [RECORD])
    # A few have the same number, age and sex by chance: they are left out.
    assert usable is None or len(usable) >= 180
    assert take_part(films(5000, 50), [RECORD]) is None


def test_images_of_the_weights_that_a_training_began_with_are_known() -> None:
    own = films(5000, 100, seed=1)
    record = split_record(split(own, 0), 0, (), starts=[RECORD])
    assert known_split(own, record) == split(own, 0)
    usable = take_part(FOLDER, [record])
    assert usable is not None
    assert {s.id for s in usable} == {s.id for s in PARTS.test}
    again = split_record(PARTS, 3, (), starts=[RECORD, RECORD])
    assert again.id_hashes == RECORD.id_hashes


def test_hashes_are_small_and_sorted() -> None:
    text = id_hashes(FOLDER)
    assert count_hashes(text) == 200
    assert len(text) <= 1340
    assert text == id_hashes(FOLDER[::-1])
    assert shared_ids(FOLDER[:7], text) == {s.id for s in FOLDER[:7]}
    assert shared_ids(FOLDER, "") == shared_ids(FOLDER, "no base64") == set()


def test_calibration_images_are_refused_by_id_at_any_size() -> None:
    manifest = SimpleNamespace(calibration_ids=id_hashes(FOLDER[:32]), calibration_images=())
    bundle = SimpleNamespace(name="int8", manifest=manifest)
    with pytest.raises(InputError, match=r"1005\.png: int8 was calibrated on this image"):
        refuse_calibration_images(FOLDER[5:6], [bundle])
    refuse_calibration_images(FOLDER[32:], [bundle])
    refuse_calibration_images(films(1000, 32, seed=7)[:3], [bundle])


def test_calibration_uses_training_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    header = SimpleNamespace(
        training=SimpleNamespace(split=RECORD), architecture=SimpleNamespace(sex=True)
    )
    checkpoint = SimpleNamespace(header=header, name="model", path=Path("model"))
    folder = [*FOLDER[1:], *films(9000, 3)]
    monkeypatch.setattr("bakit.calib.select.read_samples", lambda _: folder)
    chosen, held_out = calibration_samples(checkpoint, Path("data"), 40, 0)
    assert {s.id for s in chosen} <= {s.id for s in PARTS.train}
    assert {s.id for s in held_out} <= {s.id for s in PARTS.validation}
    with pytest.raises(InputError, match="images are in the validation or test split of model"):
        calibration_samples(checkpoint, Path("data"), 40, 0, all_images=True)
    monkeypatch.setattr("bakit.calib.select.read_samples", lambda _: films(5000, 50))
    with pytest.raises(InputError, match="has no training image of model"):
        calibration_samples(checkpoint, Path("data"), 40, 0)
    chosen, _ = calibration_samples(checkpoint, Path("data"), 40, 0, all_images=True)
    assert len(chosen) == 40


def test_films_of_one_patient_are_in_one_part() -> None:
    shared = [sample._replace(patient=f"p{n // 3}") for n, sample in enumerate(FOLDER)]
    parts = split(shared, 0)
    patients = [{s.patient for s in part} for part in parts]
    assert len(set.union(*patients)) == sum(map(len, patients)), "no patient is in two parts"
    assert sum(map(len, parts)) == 200
    assert [len(part) for part in parts] == pytest.approx((140, 40, 20), abs=3)
    assert parts == split(shared[::-1], 0)


@pytest.mark.parametrize("change", ["less one row", "one row more", "another size"])
def test_a_changed_training_folder_is_scored_on_unseen_films_and_said(
    change: str, tmp_path: Path, checkpoint: Checkpoint, labelled: Labelled
) -> None:
    parts = split(labelled.samples, 0)
    record = split_record(parts, 0, ())
    training = TrainingRecord("phantoms", "none", {}, record, {}, 1, {})
    model = checkpoint.with_header(training=training).write(tmp_path / "model.safetensors")
    folder = tmp_path / "films"
    shutil.copytree(labelled.folder, folder)
    table = folder / "labels.csv"
    head, *rows = table.read_text().splitlines()
    unseen = {sample.id for sample in parts.test}
    taught = parts.train[0]
    if change == "less one row":
        rows = [row for row in rows if not row.startswith(f"{taught.id},")]
    elif change == "one row more":
        rows.append(f"foreign,99,{taught.male},0,0,9,9")
        shutil.copy(taught.path, folder / "images" / f"foreign{taught.path.suffix}")
        unseen.add("foreign")
    else:
        for path in (folder / "images").iterdir():
            picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            cv2.imwrite(str(path), cv2.resize(picture, None, fx=1.5, fy=1.5))
    table.write_text("\n".join([head, *rows]) + "\n")

    result = CliRunner().invoke(main, ["evaluate", str(folder), "--checkpoint", str(model.path)])
    assert result.exit_code == 0, result.output
    said = f"test split: {len(unseen)} of {len(rows)} images; the others were used for training"
    assert said in " ".join(result.output.split())

    manifest = SimpleNamespace(checkpoint_sha256="0", split=record)
    chosen, info = read_data(folder, None, [SimpleNamespace(manifest=manifest)])
    assert {sample.id for sample in chosen} == unseen
    assert (info.part, info.left_out) == ("test", len(rows) - len(unseen))
