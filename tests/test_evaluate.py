"""A model's errors on labelled images, against numbers worked out by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from bakit.backends.fake import FakeSession
from bakit.bundle import Bundle, write_manifest
from bakit.cli import main
from bakit.data.labels import Sample, read_samples
from bakit.data.splits import split, split_record, take_part, thin
from bakit.errors import InputError, UnsupportedTargetError
from bakit.image.box import Box
from bakit.model.intervals import Intervals
from bakit.runtime import Quality, Runtime
from bakit.studies.evaluate.agreement import LEAST, agreement_of, bland_altman
from bakit.studies.evaluate.choose import choose_images, choose_sets
from bakit.studies.evaluate.document import (
    Compared,
    Data,
    Evaluation,
    Model,
    Predicted,
    Readings,
    worst_of,
)
from bakit.studies.evaluate.plots import draw_plots
from bakit.studies.evaluate.run import evaluate_sets, open_model, score
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from bakit.model.checkpoint import Checkpoint
    from tests.conftest import Labelled

PLOTS = ("predicted_true.png", "bland_altman.png", "error_by_age.png", "worst_cases.png")
MODEL = Model("bundle", "model", "c" * 64, "b", "b" * 64, "fake", Precision.FP32, "fake")
DATA = Data("radiographs", 5, "all", 5, False, "")


def evaluate(bundle, images, **how):
    (found,) = evaluate_sets(bundle, [images], **how)
    return found


def predicted(
    name: str, age: float, months: float, *, male: bool = False, reasons: tuple[str, ...] = ()
) -> Compared:
    quality = Quality("review" if reasons else "accept", reasons)
    return Compared(
        name, male, months, None, Box(0, 0, 9, 9), quality,
        age_months=age, error_months=months - age,
    )  # fmt: skip


def of_pair(name: str, months: float, side: str = "") -> Predicted:
    return msgspec.structs.replace(predicted(name, 0, months), pair=name, side=side)


def make_folder(folder: Path, samples: list[Sample], header: str, row: Callable[..., str]) -> Path:
    """Copy images into a labelled folder; ``row`` returns what follows the id."""
    (folder / "images").mkdir(parents=True)
    for sample in samples:
        (folder / "images" / sample.path.name).write_bytes(sample.path.read_bytes())
    rows = [f"{sample.id},{row(index, sample)}" for index, sample in enumerate(samples)]
    (folder / "labels.csv").write_text("\n".join([f"id,{header}", *rows]))
    return folder


FIVE = [
    predicted("a", 0, 12),  # +12
    predicted("b", 23.9, 3.9, male=True),  # -20
    predicted("c", 24, 54, male=True),  # +30
    predicted("d", 216, 214, reasons=("no_hand_found",)),  # -2
    predicted("e", 240, 246, male=True),  # +6
]


def change_manifest(bundle: Path, **changes: object) -> Path:
    manifest = msgspec.structs.replace(Bundle.read(bundle).manifest, **changes)
    write_manifest(bundle, manifest)
    return bundle


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert result.stderr.partition("next: ")[0] == ""
    assert "--json" in arguments or result.output.splitlines()[-1].startswith("next: bakit ")
    return result.stdout


# Statistics


def test_the_numbers_are_those_worked_out_by_hand():
    evaluation = score(MODEL, DATA, FIVE)
    assert evaluation.samples == 5
    assert evaluation.mae_months == pytest.approx(70 / 5)
    assert evaluation.bias_months == pytest.approx(26 / 5)
    assert evaluation.rmse_months == pytest.approx(((144 + 400 + 900 + 4 + 36) / 5) ** 0.5)
    assert evaluation.median_abs_error_months == pytest.approx(12)
    assert evaluation.within_12_months == pytest.approx(3 / 5)
    assert evaluation.within_24_months == pytest.approx(4 / 5)
    low, high = evaluation.mae_ci95_months
    assert 0 <= low < evaluation.mae_months < high <= 40
    assert evaluation.by_sex["F"].samples == 2
    assert evaluation.by_sex["F"].mae_months == pytest.approx(7)
    assert evaluation.by_sex["F"].bias_months == pytest.approx(5)
    assert evaluation.by_sex["M"].samples == 3
    assert evaluation.by_sex["M"].mae_months == pytest.approx(56 / 3)
    assert evaluation.by_sex["M"].bias_months == pytest.approx(16 / 3)
    assert evaluation.quality == {"accept": 4, "review": 1}
    assert evaluation.no_hand_found == 1
    assert evaluation.coverage is None


def test_age_bins_are_two_years_and_the_last_one_holds_the_oldest():
    bins = score(MODEL, DATA, FIVE).by_age
    assert [(item.from_months, item.to_months, item.samples) for item in bins] == [
        (0, 24, 2),
        (24, 48, 1),
        (216, 240, 2),
    ]
    assert [item.mae_months for item in bins] == pytest.approx([16, 30, 4])
    assert [item.bias_months for item in bins] == pytest.approx([-4, 30, 2])


def test_the_correlation_is_pearsons():
    exact = [predicted(str(age), age, 10 + age / 2) for age in (20, 90, 100)]
    assert score(MODEL, DATA, exact).correlation == pytest.approx(1)
    constant = [predicted(str(age), age, 100) for age in (20, 90, 100)]
    assert score(MODEL, DATA, constant).correlation is None
    assert score(MODEL, DATA, constant[:1]).correlation is None


def test_a_sex_without_images_is_left_out():
    assert list(score(MODEL, DATA, FIVE[:1]).by_sex) == ["F"]


def test_the_worst_come_first_and_ties_by_name():
    twins = [predicted("z", 10, 16), *FIVE, predicted("x", 10, 4)]
    assert [item.id for item in worst_of(twins, 9)] == ["c", "b", "a", "e", "x", "z", "d"]
    many = [predicted(str(number), 100, 100 + number) for number in range(30)]
    assert [item.id for item in score(MODEL, DATA, many).worst] == [
        str(n) for n in range(29, 19, -1)
    ]


# Agreement


def test_limits_of_agreement_are_those_of_the_paper():
    """SD 1, so the limits are 1.96 away; their standard errors are those of Bland and Altman."""
    values = np.repeat([-1.0, 1.0], 50) * (99 / 100) ** 0.5 + 3
    found = bland_altman(values)
    assert found.bias_months == pytest.approx(3)
    assert found.upper_months == pytest.approx(3 + 1.96)
    assert found.lower_months == pytest.approx(3 - 1.96)
    student = 1.9842  # 97.5 % for 99 degrees of freedom
    assert found.bias_ci95_months == pytest.approx((3 - student / 10, 3 + student / 10), abs=1e-4)
    half = student * (1 / 100 + 1.96**2 / (2 * 99)) ** 0.5
    assert found.upper_ci95_months == pytest.approx((4.96 - half, 4.96 + half), abs=1e-4)
    assert found.lower_ci95_months == pytest.approx((1.04 - half, 1.04 + half), abs=1e-4)


def test_few_images_have_no_interval_of_the_limits():
    assert bland_altman(np.array([3.0])) is None
    few = bland_altman(np.arange(LEAST - 1.0))
    assert (few.bias_months, few.bias_ci95_months) == ((LEAST - 2) / 2, None)
    assert bland_altman(np.arange(float(LEAST))).bias_ci95_months is not None
    assert score(MODEL, DATA, FIVE[:1]).bland_altman is None
    assert score(MODEL, DATA, FIVE).bland_altman.bias_months == pytest.approx(26 / 5)


def test_pairs_are_compared_left_minus_right():
    rows = [
        of_pair("a", 100, "R"), of_pair("a", 104, "L"),  # +4, whatever the order
        of_pair("b", 50, "L"), of_pair("b", 58, "R"),  # -8
        of_pair("c", 10), of_pair("c", 13),  # no sides: 3
        of_pair("d", 70, "L"), predicted("alone", 0, 99),
    ]  # fmt: skip
    found = agreement_of(rows)
    assert (found.pairs, found.sided_pairs) == (3, 2)
    assert found.mean_abs_difference_months == pytest.approx(15 / 3)
    assert found.median_abs_difference_months == pytest.approx(4)
    assert found.median_abs_difference_ci95_months is None
    assert found.left_minus_right.bias_months == pytest.approx(-2)
    assert agreement_of(rows[6:]) is None
    assert agreement_of(rows[4:]).left_minus_right is None
    assert score(MODEL, DATA, FIVE).agreement is None


def test_a_folder_without_ages_reports_agreement_only(fake_bundle, labelled: Labelled, tmp_path):
    sides = ("L", "right", "R", "left", "", "")
    folder = make_folder(
        tmp_path / "hands", labelled.samples[:7], "pair,side",
        lambda index, _: f"{index // 2},{sides[index]}" if index < 6 else ",",
    )  # fmt: skip
    words = (folder, "--bundle", fake_bundle, "--workers", 1)
    found = {}
    for sex in "FM":
        parsed = json.loads(run(*words, "--sex", sex, "--json"))
        found[sex] = msgspec.convert(parsed, Readings)
        assert found[sex].data.assumed_sex == sex
        assert {item.male for item in found[sex].predictions} == {sex == "M"}
        ages = [item.predicted_months for item in found[sex].predictions]
        differences = np.abs(np.subtract(ages[::2], ages[1::2]))
        agreement = found[sex].agreement
        assert (agreement.pairs, agreement.sided_pairs) == (3, 2)
        assert agreement.mean_abs_difference_months == pytest.approx(differences.mean())
        left = (ages[0] - ages[1] + ages[3] - ages[2]) / 2
        assert agreement.left_minus_right.bias_months == pytest.approx(left)
    assert found["F"].schema_version == 2
    text = run(*words, "--sex", "F", "--plots", tmp_path / "plots")
    assert "\n6 of 7 images, those of pairs; read as F, their sex is unknown\n" in text
    assert "Two images of one child, months" in text
    assert "MAE" not in text
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["pairs.png"]
    images = choose_sets([folder], Bundle.read(fake_bundle), limit=3, sex="F")[0]
    assert [sample.pair for sample in images.samples] == ["0", "0"]


def test_a_folder_with_ages_and_pairs_reports_both(fake_bundle, labelled: Labelled, tmp_path):
    folder = make_folder(
        tmp_path / "data", labelled.samples[:4], "boneage,male,pair",
        lambda index, s: f"{s.age_months},{s.male},{index // 2}",
    )  # fmt: skip
    options = ("--bundle", fake_bundle, "--workers", 1, "--plots", tmp_path / "plots")
    document = json.loads(run(folder, *options, "--json"))
    assert document["samples"] == 4
    assert document["agreement"]["pairs"] == 2
    assert document["agreement"]["left_minus_right"] is None
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == sorted([*PLOTS, "pairs.png"])


# Several sets


def test_several_folders_are_one_table(fake_bundle, labelled: Labelled, tmp_path):
    few = make_folder(
        tmp_path / "[few]", labelled.samples[:4], "boneage,male",
        lambda _, s: f"{s.age_months},{s.male}",
    )  # fmt: skip
    hands = make_folder(
        tmp_path / "hands", labelled.samples[:2], "male,pair", lambda _, s: f"{s.male},x"
    )
    words = (labelled.folder, few, hands, "--bundle", fake_bundle, "--workers", 1)
    document = json.loads(run(*words, "--json"))
    assert document.keys() == {"schema_version", "sets"}
    one, two, three = document["sets"]
    assert [item["data"]["folder"] for item in (one, two, three)] == ["phantoms", "[few]", "hands"]
    alone = json.loads(run(labelled.folder, "--bundle", fake_bundle, "--workers", 1, "--json"))
    assert one == alone
    assert msgspec.convert(two, Evaluation).samples == 4
    assert msgspec.convert(three, Readings).agreement.pairs == 1
    text = run(*words, "--plots", tmp_path / "plots")
    rows = [line.split() for line in text.splitlines()]
    mae = f"{alone['mae_months']:.2f}"
    assert ["phantoms", "12", mae] in [row[:3] for row in rows]
    assert "[few]: all 4 images\n" in text, "no markup"
    for title in ("Errors, months", "By sex, months", "By true age", "Bland-Altman, months"):
        assert title in text
    assert "Worst" not in text
    folders = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert folders == ["[few]", "hands", "phantoms"]
    text = run(few, hands, "--bundle", fake_bundle, "--workers", 1)
    assert ["[few]", "4"] in [line.split()[:2] for line in text.splitlines()]


def test_sets_of_one_name_get_their_paths(fake_bundle, labelled: Labelled, tmp_path):
    bundle = Bundle.read(fake_bundle)
    folders = [
        make_folder(
            tmp_path / site / "test", labelled.samples[:2], "boneage,male",
            lambda _, s: f"{s.age_months},{s.male}",
        )
        for site in ("a", "b")
    ]  # fmt: skip
    sets = choose_sets(folders, bundle)
    assert [images.data.folder for images in sets] == ["a/test", "b/test"]
    assert [item.samples for item in evaluate_sets(bundle, sets, workers=1)] == [2, 2]


# The whole path


def test_an_evaluation_is_what_the_runtime_says(fake_bundle, labelled: Labelled):
    bundle = Bundle.read(fake_bundle)
    done: list[tuple] = []
    images = choose_images(labelled.folder, bundle)
    evaluation = evaluate(bundle, images, workers=1, on_progress=lambda *told: done.append(told))
    with Runtime(bundle, 1) as runtime:
        expected = [runtime.predict(s.path, "M" if s.male else "F") for s in labelled.samples]
    assert [item.predicted_months for item in evaluation.predictions] == [
        item.age_months for item in expected
    ]
    assert [item.box for item in evaluation.predictions] == [item.box for item in expected]
    assert [item.id for item in evaluation.predictions] == [s.id for s in labelled.samples]
    errors = [e.age_months - s.age_months for e, s in zip(expected, labelled.samples, strict=True)]
    assert evaluation.bias_months == pytest.approx(np.mean(errors))
    total = len(labelled.samples)
    assert done == [("images", count, total) for count in range(1, total + 1)]
    assert (evaluation.data.part, evaluation.data.trained_on) == ("all", False)
    assert evaluation.model.source == "bundle"
    assert evaluation.model.bundle_sha256 == bundle.sha256
    assert evaluation.model.checkpoint_sha256 == bundle.manifest.checkpoint_sha256


def test_several_processes_say_what_one_says(
    exported: Callable[..., Bundle], labelled: Labelled, tmp_path: Path
):
    bundle = exported("onnx", "fp32")
    images = choose_images(labelled.folder, bundle, limit=5)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"broken")
    images.samples.insert(2, Sample("bad", bad, 100.0, male=True))
    done: list[tuple] = []
    alone = evaluate(bundle, images, workers=1)
    together = evaluate(bundle, images, workers=2, on_progress=lambda *told: done.append(told))
    assert together == alone
    assert done == [("images", count, 6) for count in range(1, 7)]
    assert alone.samples == 5
    assert [item.id for item in alone.unscored] == ["bad"]


def test_a_process_that_cannot_open_the_bundle_is_one_error(fake_bundle, labelled: Labelled, capfd):
    """The fake target is known here alone: its processes cannot open the bundle."""
    bundle = Bundle.read(fake_bundle)
    with pytest.raises(UnsupportedTargetError, match="unknown target 'fake'"):
        evaluate(bundle, choose_images(labelled.folder, bundle), workers=2)
    capfd.readouterr()


def test_a_checkpoint_is_judged_by_its_float_bundle(
    checkpoint: Checkpoint, exported: Callable[..., Bundle], labelled: Labelled
):
    images = choose_images(labelled.folder, checkpoint, limit=3)
    evaluation = evaluate(checkpoint, images, workers=1)
    same = evaluate(exported("onnx", "fp32"), images, workers=1)
    assert evaluation.predictions == same.predictions
    assert evaluation.model.source == "checkpoint"
    assert evaluation.model.bundle == f"{checkpoint.name}-onnx-fp32"
    assert evaluation.model.checkpoint_sha256 == checkpoint.sha256


def test_the_shipped_checkpoint_is_the_default():
    model = open_model()
    assert model.name == "bakit-rsna299"


def test_unreadable_images_are_named_and_not_counted(fake_bundle, labelled: Labelled, tmp_path):
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    good = labelled.samples[0]
    (folder / "images/good.png").write_bytes(good.path.read_bytes())
    (folder / "images/bad.png").write_bytes(b"")
    rows = f"id,boneage,male\nbad,100,True\ngood,{good.age_months},{good.male}\n"
    (folder / "labels.csv").write_text(rows)
    text = run(folder, "--bundle", fake_bundle, "--workers", 1)
    assert "unusable images, not counted: 1\n  bad: the file is empty\n" in text
    document = json.loads(run(folder, "--bundle", fake_bundle, "--workers", 1, "--json"))
    assert document["samples"] == 1
    assert document["unscored"] == [{"id": "bad", "reason": "the file is empty"}]


def test_intervals_are_judged(fake_bundle, labelled: Labelled):
    offsets = {"F": ((-20.0, 30.0),), "M": ((-5.0, 5.0),)}
    intervals = Intervals(0.9, (), offsets, {"F": (100,), "M": (100,)})
    change_manifest(fake_bundle, intervals=intervals)
    document = json.loads(run(labelled.folder, "--bundle", fake_bundle, "--workers", 1, "--json"))
    inside = {"F": [], "M": []}
    for item in document["predictions"]:
        low, high = item["interval_months"]
        inside["M" if item["male"] else "F"].append(low <= item["age_months"] <= high)
    assert document["coverage"]["overall"]["samples"] == len(labelled.samples)
    for sex, width in (("F", 50), ("M", 10)):
        mine = document["coverage"]["by_sex"][sex]
        assert mine["share"] == pytest.approx(np.mean(inside[sex]))
        assert mine["mean_width_months"] == pytest.approx(width)
    text = run(labelled.folder, "--bundle", fake_bundle, "--workers", 1)
    assert text.count("inside 90 %") == 2


# Parts


@pytest.fixture
def trained(fake_bundle, labelled: Labelled) -> Path:
    """Return a bundle that was trained on the labelled folder, one image left out."""
    left_out = (labelled.samples[0].id,)
    parts = split(labelled.samples, 5, left_out)
    return change_manifest(fake_bundle, split=split_record(parts, 5, left_out))


@pytest.mark.parametrize(
    ("part", "used", "count"),
    [
        ("auto", "test", 1),
        ("test", "test", 1),
        ("validation", "validation", 2),
        ("train", "train", 8),
        ("all", "all", 12),
    ],
)
def test_parts_of_the_training_folder(trained, labelled: Labelled, part, used, count):
    images = choose_images(labelled.folder, Bundle.read(trained), part)
    assert (images.data.part, images.data.available, images.data.images) == (used, count, 12)
    assert images.data.trained_on
    parts = split(labelled.samples, 5, (labelled.samples[0].id,))
    expected = {s.id for s in (labelled.samples if used == "all" else getattr(parts, used))}
    assert {sample.id for sample in images.samples} == expected
    order = [sample.id for sample in labelled.samples]
    assert [s.id for s in images.samples] == sorted(expected, key=order.index)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "test split: 1 of 12 images; the others were used for training or validation"),
        (["--part", "train"], "train split: 8 of 12 images; the model was trained on them"),
        (
            ["--part", "validation"],
            "validation split: 2 of 12 images; the model was selected on them",
        ),
        (
            ["--part", "all", "--limit", 5],
            "all 12 images; includes the model's training and validation images; limited to 5",
        ),
    ],
)
def test_the_text_says_what_the_model_has_seen(trained, labelled: Labelled, options, line):
    assert line in run(labelled.folder, "--bundle", trained, "--workers", 1, *options).splitlines()


def test_a_checkpoint_knows_its_training_folder_too(checkpoint: Checkpoint, labelled: Labelled):
    assert checkpoint.header.training is None
    assert choose_images(labelled.folder, checkpoint).data.part == "all"
    known = open_model().header.training.split
    assert take_part(labelled.samples, [known]) is None


def test_what_one_of_two_models_was_trained_on_is_not_held_out(labelled: Labelled):
    samples = [Sample(str(n), Path(f"{n}.png"), 100.0, male=True) for n in range(30)]
    both = [split(samples, seed) for seed in (0, 2)]
    records = [split_record(parts, seed, ()) for parts, seed in zip(both, (0, 2), strict=True)]
    other = split_record(split(labelled.samples), 0, ())
    shared = set(both[0].test) & set(both[1].test)
    assert set(take_part(samples, [*records, other])) == shared
    assert take_part(samples, [other]) is None
    assert take_part(samples, []) is None


def test_thinning_is_even():
    samples = [Sample(str(n), Path(f"{n}.png"), 100.0, male=True) for n in range(6)]
    assert [sample.id for sample in thin(samples, 3)] == ["0", "2", "4"]
    assert thin(samples, None) == thin(samples, 100) == samples
    assert thin([], 3) == []


# The command


def test_json_alone_is_printed(fake_bundle, labelled: Labelled, tmp_path):
    folder = tmp_path / "plots"
    options = ("--bundle", fake_bundle, "--workers", 1, "--json", "--plots", folder)
    document: dict[str, Any] = json.loads(run(labelled.folder, *options))
    assert {"samples", "mae_months", "bias_months", "by_sex", "by_age"} <= document.keys()
    assert document["schema_version"] == 2
    assert document["bland_altman"]["bias_months"] == document["bias_months"]
    assert msgspec.convert(document, Evaluation).samples == 12
    assert set(document["by_sex"]) == {"F", "M"}
    assert {"samples", "mae_months", "bias_months"} == document["by_sex"]["F"].keys()
    assert {"from_months", "to_months", "samples"} <= document["by_age"][0].keys()
    keys = {"id", "age_months", "predicted_months", "male", "interval_months", "box", "quality"}
    assert keys <= document["predictions"][0].keys()
    assert len(document["worst"]) == 10
    assert sorted(path.name for path in folder.iterdir()) == sorted(PLOTS)


def test_the_text_has_a_summary_tables_and_plots(fake_bundle, labelled: Labelled, tmp_path):
    folder = tmp_path / "new" / "plots"
    text = run(labelled.folder, "--bundle", fake_bundle, "--workers", 1, "--plots", folder)
    assert "\nall 12 images\n" in text
    for words in (
        "Errors, months",
        "MAE [95 %]",
        "within 12",
        "By sex, months",
        "By true age, months",
        "Bland-Altman",
        "Worst images",
    ):
        assert words in text
    assert f"plot: {folder / 'worst_cases.png'}" in text
    for name in PLOTS:
        pixels = cv2.imread(str(folder / name))
        assert min(pixels.shape[:2]) > 300
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
        assert (folder / name).stat().st_size < 2_000_000


def test_plots_of_one_image_and_of_strange_names(labelled: Labelled, tmp_path):
    name = "$x_1$ " + "long" * 20
    data = msgspec.structs.replace(DATA, folder=name)
    model = msgspec.structs.replace(MODEL, checkpoint=name)
    images = [Sample(name, labelled.samples[0].path, 100.0, male=True)]
    for months in (100.0, 130.0):
        evaluation = score(model, data, [predicted(name, 100.0, months, male=True)])
        drawn = draw_plots(evaluation, images, tmp_path / str(months))
        assert [path.name for path in drawn] == list(PLOTS)


def test_the_same_evaluation_gives_the_same_pictures(labelled: Labelled, tmp_path):
    rows = [predicted(s.id, s.age_months, s.age_months + 3) for s in labelled.samples]
    evaluation = score(MODEL, DATA, rows)
    first, second = (draw_plots(evaluation, labelled.samples, tmp_path / name) for name in "ab")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


# Bad input


@pytest.mark.parametrize(
    ("rows", "options", "reason"),
    [
        ("id,pair\n0,x\n1,x", [], "no sexes; add the column male (True or False), or use --sex"),
        ("id,male\n0,True\n1,False", [], "neither ages nor pairs; add a column boneage or pair"),
        ("id,male,pair\n0,True,x\n1,True,y", [], "neither ages nor pairs"),
        ("id,male,pair\n0,True,x\n1,True,x\n2,True,x", [], "pair 'x' has a third image, '2'"),
        (
            "id,male,pair,side\n0,True,x,L\n1,True,x,left",
            [],
            "both images of pair 'x' have side L",
        ),
        ("id,male,pair,side\n0,True,x,L\n1,True,x,top", [], "side of '1' is 'top'; use L or R"),
        ("id,male,pair\n0,True,x\n1,,x", [], "labels.csv:3: male is ''; use True or False"),
        (
            "id,boneage,male,pair\n0,5,True,x\n1,,True,x",
            [],
            "labels.csv:3: boneage '' is not an age in months (0 to 240)",
        ),
        ("id,male,pair\n0,True,x\n1,True,x", ["--sex", "F"], "--sex F: labels.csv gives the sexes"),
        ("id,boneage,male\n0,5,True", ["again"], "data is given twice; name each folder once"),
    ],
)
def test_labels_without_what_is_needed(refused, fake_bundle, tmp_path, rows, options, reason):
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "again").symlink_to(tmp_path / "data")
    for name in "012":
        cv2.imwrite(str(tmp_path / f"data/images/{name}.png"), np.zeros((9, 9), np.uint8))
    (tmp_path / "data/labels.csv").write_text(rows)
    assert reason in refused("evaluate", "data", "--bundle", fake_bundle, *options)


def test_other_commands_still_want_ages(refused, fake_bundle, labelled: Labelled, tmp_path):
    folder = make_folder(tmp_path / "hands", labelled.samples[:2], "male,pair", lambda *_: "True,x")
    line = refused("stress", folder, "--bundle", fake_bundle)
    assert "column 'boneage' is missing; expected id,boneage,male" in line


def test_no_data_folder(refused, fake_bundle):
    line = refused("evaluate", "nothing", "--bundle", fake_bundle)
    assert line == "bakit: nothing: no such folder"


def test_no_bundle_and_no_checkpoint(refused, labelled: Labelled):
    line = refused("evaluate", labelled.folder, "--bundle", "nothing")
    assert "nothing: no such folder" in line
    line = refused("evaluate", labelled.folder, "--checkpoint", "nothing.safetensors")
    assert "nothing.safetensors: the checkpoint cannot be read" in line


def test_a_bundle_and_a_checkpoint(refused, fake_bundle, labelled: Labelled):
    line = refused("evaluate", labelled.folder, "--bundle", fake_bundle, "--checkpoint", "x")
    assert line == "bakit: use a bundle or a checkpoint, not both"


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_part_of_an_unknown_folder(refused, fake_bundle, labelled: Labelled, part):
    line = refused("evaluate", labelled.folder, "--bundle", fake_bundle, "--part", part)
    assert f"so it has no {part} split; use --part all" in line


@pytest.mark.parametrize("options", [("--limit", 0), ("--workers", 0), ("--threads", 0)])
def test_options_that_measure_nothing(refused, fake_bundle, labelled: Labelled, options):
    refused("evaluate", labelled.folder, "--bundle", fake_bundle, *options)
    bundle = Bundle.read(fake_bundle)
    images = choose_images(labelled.folder, bundle)
    calls = {
        "--limit": lambda: choose_images(labelled.folder, bundle, limit=0),
        "--workers": lambda: evaluate(bundle, images, workers=0),
        "--threads": lambda: evaluate(bundle, images, threads=0),
    }
    with pytest.raises(InputError, match="=0 is not possible; use 1 or more"):
        calls[options[0]]()


def test_plots_into_a_file(refused, fake_bundle, labelled: Labelled, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused(
        "evaluate", labelled.folder, "--bundle", fake_bundle, "--plots", tmp_path / "file" / "sub"
    )
    assert "not a writable folder" in line


def test_no_matplotlib_is_said_before_the_long_work(
    refused, fake_bundle, labelled: Labelled, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(
        "bakit.studies.evaluate.run.evaluate_sets", lambda *_, **__: pytest.fail("measured")
    )
    line = refused(
        "evaluate", labelled.folder, "--bundle", fake_bundle, "--plots", "plots", status=3
    )
    assert line == "bakit: drawing plots needs: pip install 'bakit-edge[report]'"


def test_no_usable_image(refused, fake_bundle, tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data/images/1.png").write_bytes(b"")
    (tmp_path / "data/labels.csv").write_text("id,boneage,male\n1,100,True\n")
    assert len(read_samples(tmp_path / "data")) == 1
    line = refused("evaluate", "data", "--bundle", fake_bundle, "--workers", 1)
    assert line == "bakit: data/images/1.png: the file is empty; no other image can be used"


def test_a_model_that_says_no_number(refused, fake_bundle, labelled: Labelled, monkeypatch):
    says = FakeSession.run

    def run_broken(session: FakeSession, feeds: Any) -> Any:
        outputs = says(session, feeds)
        return {
            name: value * np.nan if name == "age_months" else value
            for name, value in outputs.items()
        }

    monkeypatch.setattr(FakeSession, "run", run_broken)
    line = refused("evaluate", labelled.folder, "--bundle", fake_bundle, "--workers", 1, status=1)
    assert "predicted nan months" in line
