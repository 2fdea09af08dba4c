"""Training, from a labelled folder to a checkpoint that can be exported."""

import csv
import dataclasses
import json
import re
import shutil

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bakit.cli import main
from bakit.data.labels import read_samples
from bakit.data.splits import known_split, split
from bakit.errors import InputError
from bakit.export import export_bundle
from bakit.hand.unrolled import initial_weights
from bakit.hand.weights import Localizer, fits, get_localizer
from bakit.model.checkpoint import Checkpoint
from bakit.model.recipes import RECIPES, default_recipe, get_recipe
from bakit.model.regressor import Regressor
from bakit.phantoms import write_phantoms
from bakit.settings import PAPER_LOCALIZER, Architecture, Preprocessing, UnrolledSettings
from bakit.training.crops import Part
from bakit.training.plan import TrainingPlan
from bakit.training.pretrained import load_backbone
from bakit.training.run import Progress, train
from bakit.training.scoring import predict_part, taught
from bakit.types import Precision

TINY = UnrolledSettings(size=32, features=4, labels=4, steps=2)
LOCALIZER = Localizer(TINY, initial_weights(TINY), "not trained")
QUICK = get_recipe("scratch", epochs=2, batch_size=4, crops=2, phantoms=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("train") / "data", 20, height=96)


def make_plan(data, **changes):
    plan = {
        "data": data,
        "recipe": QUICK,
        "architecture": Architecture(head_layers=1),
        "preprocessing": Preprocessing(96),
        "localizer": LOCALIZER,
        "description": "twenty phantoms",
    }
    return TrainingPlan(**plan | changes)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("train") / "run"
    done = {}

    def on_progress(step, count, total):
        assert 0 < count <= total
        done[step] = done.get(step, 0) + 1

    return train(make_plan(data), out, workers=1, progress=Progress(on_progress)), out, done


def test_checkpoint_carries_its_record(trained, data):
    checkpoint, out, done = trained
    record = checkpoint.header.training
    parts = split(read_samples(data), 0)
    ages = [sample.age_months for sample in parts.train]

    assert checkpoint.path == out / "best.safetensors"
    assert done.pop("training") == 8  # two epochs of four batches
    assert done == {"checking images": 20, "localizing": 20, "cropping": 20, "drawing phantoms": 4}
    assert checkpoint.header.mean_months == pytest.approx(np.mean(ages), abs=1e-3)
    assert checkpoint.header.sd_months == pytest.approx(np.std(ages, ddof=1), abs=1e-3)
    assert (record.data, record.recipe["epochs"]) == ("twenty phantoms", 2)
    assert {name: m.samples for name, m in record.metrics.items()} == {"validation": 4, "test": 2}
    assert checkpoint.header.ranges.samples == len(parts.train) == 14


def test_a_teacher_mixes_its_mean_of_both_views_into_the_labels(trained, data, tmp_path):
    checkpoint, out, _ = trained
    images = torch.randint(0, 256, (3, 2, 96, 96), dtype=torch.uint8)
    part = Part(images, torch.tensor([[0.0], [1.0], [1.0]]), torch.full((3, 1), 100.0))
    mirrored = dataclasses.replace(part, images=images.flip(3))
    views = np.mean([predict_part(checkpoint, view) for view in (part, mirrored)], axis=0)

    assert taught(checkpoint, part, 0.0).ages_months.tolist() == [[100.0]] * 3
    half = taught(checkpoint, part, 0.5).ages_months[:, 0].numpy()
    assert half == pytest.approx((100 + views) / 2, rel=1e-5)
    assert half == pytest.approx(taught(checkpoint, mirrored, 0.5).ages_months[:, 0], rel=1e-4)

    teacher = str(out / "best.safetensors")
    recipe = msgspec.structs.replace(QUICK, epochs=1, teacher=teacher, teacher_weight=0.9)
    kept = train(make_plan(data, recipe=recipe), tmp_path / "run", workers=1)
    assert kept.header.training.recipe["teacher"].startswith("best.safetensors, sha256 ")
    assert kept.header.training.split == checkpoint.header.training.split
    for start in ({"teacher": teacher}, {"pretrained": teacher, "teacher": "none"}):
        learned = make_plan(data, recipe=msgspec.structs.replace(recipe, **start), split_seed=1)
        with pytest.raises(
            InputError, match=r"best\.safetensors: [12] of 2 test images and . of 4"
        ):
            train(learned, tmp_path / "learned", workers=1)
        assert not (tmp_path / "learned/plan.json").exists()
    larger = make_plan(data, recipe=recipe, preprocessing=Preprocessing(128))
    with pytest.raises(InputError, match=r"takes images of 96 pixels; train with --image-size 96"):
        train(larger, tmp_path / "larger", workers=1)


def test_a_run_that_is_cut_off_leaves_its_best_epoch(data, tmp_path, monkeypatch):
    def fail(*_, **__):
        message = "cut off"
        raise RuntimeError(message)

    plan = make_plan(data, preprocessing=Preprocessing(96, localize=False))
    with monkeypatch.context() as patch:
        patch.setattr("bakit.training.run.score", fail)
        with pytest.raises(RuntimeError, match="cut off"):
            train(plan, tmp_path / "first")
    best = tmp_path / "first" / "unfinished.safetensors"

    assert not (tmp_path / "first" / "best.safetensors").exists()
    assert load_backbone(Regressor(Architecture(head_layers=1)), str(best)).initialized == ()
    # The run itself can be gone on with, too; all that is left to do is its end.
    assert train(plan, tmp_path / "first", resume=True).path.exists()
    assert not best.exists()


def test_history_has_a_row_for_each_epoch(trained):
    with (trained[1] / "metrics.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    record = trained[0].header.training
    lowest = min(rows, key=lambda row: float(row["val_mae_months"]))
    assert int(lowest["epoch"]) == record.best_epoch
    # The history is of the weights themselves, the record of the weights as float16.
    stored = record.metrics["validation"].mae_months
    assert float(lowest["val_mae_months"]) == pytest.approx(stored, abs=0.1)
    assert list((trained[1] / "logs").glob("events.out.tfevents*"))
    assert (trained[1] / "curve.png").is_file()


def test_the_last_epoch_is_kept_and_can_be_exported(trained, tmp_path):
    last = Checkpoint.read(trained[1] / "last.safetensors")
    assert last.header.mean_months == trained[0].header.mean_months
    export_bundle(last, "onnx", Precision.FP32, tmp_path / "fp32")
    with pytest.raises(InputError, match="--calibration DATA"):
        export_bundle(last, "onnx", Precision.INT8, tmp_path / "int8")


def test_checkpoint_exports_and_its_reference_answers_hold(trained, tmp_path):
    bundle = export_bundle(trained[0], "onnx", Precision.INT8, tmp_path / "bundle")
    assert bundle.manifest.training_data.startswith("twenty phantoms")


def test_same_seed_same_weights(trained, data, tmp_path):
    again = train(make_plan(data), tmp_path / "again", workers=2)
    for name, value in trained[0].regressor.items():
        np.testing.assert_array_equal(value, again.regressor[name], err_msg=name)


def test_too_few_images_for_a_batch(data, tmp_path):
    plan = make_plan(data, recipe=get_recipe("scratch", batch_size=64))
    with pytest.raises(InputError, match="fewer than a batch of 64"):
        train(plan, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unknown_recipe_names_the_known_ones():
    with pytest.raises(InputError, match="paper, scratch, finetune"):
        get_recipe("nope")


def test_the_preset_follows_from_the_weights():
    assert default_recipe(None) == default_recipe("none") == "paper"
    assert default_recipe("imagenet") == default_recipe("weights.pth") == "finetune"
    clips = {name: recipe.clip_norm for name, recipe in RECIPES.items()}
    assert clips == {"paper": 0, "scratch": 5, "finetune": 5}


def test_paper_recipe_is_the_papers():
    paper = RECIPES["paper"]
    assert (paper.batch_size, paper.epochs, paper.step_epochs, paper.momentum) == (10, 160, 30, 0.9)
    assert (paper.schedule, paper.pretrained, paper.nesterov) == ("step", "imagenet", False)
    assert (paper.loss, paper.clip_norm, paper.average) == ("mse", 0, 0)
    assert Preprocessing().image_size == 224
    assert re.search(r"--image-size.*?\[default: 224\]", helped("train"), re.DOTALL)
    assert re.search(r"--image-size.*?\[default: the\s+paper's\]", helped("ablate"), re.DOTALL)


@pytest.mark.parametrize("command", ["train", "ablate"])
@pytest.mark.parametrize(
    ("more", "localizer", "margin"),
    [
        (["--recipe", "paper"], PAPER_LOCALIZER, 0),
        (
            ["--recipe", "paper", "--box-rule", "score", "--steps", "5", "--margin", "0.1"],
            msgspec.structs.replace(PAPER_LOCALIZER, box_rule="score", steps=5),
            0.1,
        ),
        (["--recipe", "paper", "--localizer", "student"], get_localizer("student").settings, 0),
        (["--recipe", "scratch"], get_localizer("student").settings, 0.05),
        (
            ["--recipe", "scratch", "--localizer", "unrolled", "--features", "4"],
            UnrolledSettings(features=4),
            0.05,
        ),
    ],
)
def test_the_recipe_sets_localizer_and_margin(
    monkeypatch, labelled, command, more, localizer, margin
):
    plans = []

    def stop(plan, *_, **__):
        plans.append(plan)
        message = "planned"
        raise InputError(message)

    monkeypatch.setattr("bakit.training.run.train", stop)
    monkeypatch.setattr("bakit.studies.ablate.run.ablate", stop)
    result = CliRunner().invoke(main, [command, str(labelled.folder), "--out", "run", *more])
    assert "planned" in result.output
    assert plans[0].localizer.settings == localizer
    assert fits(localizer, plans[0].localizer.weights)
    assert plans[0].preprocessing == Preprocessing(margin=margin)


def test_the_papers_localizer_is_the_papers():
    found = PAPER_LOCALIZER
    assert (found.features, found.labels, found.steps) == (90, 90, 50)
    assert (found.learning_rate, found.momentum) == (0.1, 0.9)
    assert (found.similarity, found.continuity, found.box_rule) == (4, 1, "literal")


def helped(command):
    return CliRunner().invoke(main, [command, "--help"]).output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--image-size", "100"], "multiple of 32"),
        (["--pretrained", "nowhere.pth"], "no such weights file"),
        (["--learning-rate", "0"], "--learning-rate 0 is not possible"),
        (["--margin", "nan"], "--margin: 'nan' is not a number"),
        (["--steps", "5"], "the student localizer has no SGD steps; use --localizer unrolled"),
        (["--zoom", "1.2", "0.9"], "--zoom 1.2 0.9: put the lower number first"),
        (["--devices", "3"], "--batch-size 4 cannot be divided among 3 processes"),
    ],
)
def test_cli_refuses_bad_options(data, tmp_path, arguments, text):
    options = ["train", str(data), "--out", str(tmp_path / "run"), "--no-localize"]
    options += ["--recipe", "scratch"]
    result = CliRunner().invoke(main, [*options, "--batch-size", "4", *arguments])
    assert result.exit_code == 2, result.output
    assert text in result.output
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_said(data, tmp_path):
    options = ["train", str(data), "--out", str(tmp_path / "run"), "--batch-size", "4"]
    result = CliRunner().invoke(main, [*options, "--accelerator", "gpu"])
    assert result.exit_code == 2, result.output
    assert "torch finds no GPU" in result.output


def test_a_diverged_run_is_said_and_keeps_what_was_good(data, tmp_path):
    recipe = msgspec.structs.replace(QUICK, learning_rate=99.0, loss="mse", average=0.0)
    plan = make_plan(data, recipe=recipe, preprocessing=Preprocessing(96, localize=False))
    with pytest.raises(InputError, match="diverged"):
        train(plan, tmp_path / "run")
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_patience_ends_a_run_and_a_resumed_one_too(data, tmp_path):
    recipe = msgspec.structs.replace(QUICK, epochs=30, patience=1, learning_rate=1e-9, phantoms=0)
    plan = make_plan(data, recipe=recipe, preprocessing=Preprocessing(96, localize=False))
    train(plan, tmp_path / "run")
    rows = (tmp_path / "run" / "metrics.csv").read_text()
    assert 2 < len(rows.splitlines()) < 30
    # As if cut off between the last epoch and the scores.
    best = tmp_path / "run" / "best.safetensors"
    best.rename(tmp_path / "run" / "unfinished.safetensors")
    train(plan, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.csv").read_text() == rows


def test_cli_prints_the_metrics(data, tmp_path):
    options = ["train", str(data), "--out", str(tmp_path / "run"), "--recipe", "scratch"]
    options += ["--epochs", "1", "--batch-size", "4", "--no-localize", "--head-layers", "1"]
    options += ["--phantoms", "0", "--crops", "1", "--image-size", "96"]
    share = ["--validation-share", "0.1"]
    result = CliRunner().invoke(main, options + share)
    assert result.exit_code == 0, result.output
    best = tmp_path / "run" / "best.safetensors"
    record = Checkpoint.read(best).header.training
    text = f"test: MAE {record.metrics['test'].mae_months:.2f} months on 2 images"
    assert text in result.output
    assert "epoch 1/1: training MAE" in result.output
    assert '"validation_share": 0.1' in CliRunner().invoke(main, ["inspect", str(best)]).output

    parts = known_split(read_samples(data)[1:], record.split)  # one row less: by its hashes
    whole = split(read_samples(data))
    assert {s.id for s in parts.test} == {s.id for s in whole.test} - {read_samples(data)[0].id}
    assert record.metrics["validation"].samples == 2
    result = CliRunner().invoke(main, [*options, "--resume"])
    assert (result.exit_code, "validation_share was 0.1, now 0.2" in result.output) == (2, True)


def test_every_number_of_a_recipe_is_an_option():
    text = helped("train")
    for name in RECIPES["paper"].__struct_fields__:
        assert f"--{name.replace('_', '-')}" in text, name


def test_a_run_is_not_overwritten_and_only_resumed_as_it_was_begun(trained, data):
    with pytest.raises(InputError, match="already holds a run"):
        train(make_plan(data), trained[1])
    plan = json.loads((trained[1] / "plan.json").read_text())
    del plan["settings"]["validation_share"]  # as in older plans
    (trained[1] / "plan.json").write_text(json.dumps(plan))
    again = train(make_plan(data), trained[1], resume=True)
    assert again.sha256 == trained[0].sha256
    recipe = msgspec.structs.replace(QUICK, shift=0.2)
    with pytest.raises(InputError, match=r"recipe\.shift was 0\.05, now 0\.2"):
        train(make_plan(data, recipe=recipe), trained[1], resume=True)


def test_unreadable_images_are_listed_or_skipped_and_excluded_ids_are_in_no_part(data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    (folder / "images" / "3.png").write_bytes(b"no image")
    few = write_phantoms(tmp_path / "few", 3, height=96)
    plan = make_plan(
        folder,
        recipe=msgspec.structs.replace(QUICK, epochs=1),
        preprocessing=Preprocessing(96, localize=False),
        exclude=(few,),
    )
    with pytest.raises(InputError, match=r"1 of \d+ images cannot be used: .*3\.png"):
        train(plan, tmp_path / "run")
    assert not (tmp_path / "run").exists()

    checkpoint = train(dataclasses.replace(plan, skip_unreadable=True), tmp_path / "run")
    excluded = {"3", *(sample.id for sample in read_samples(few))}
    assert set(checkpoint.header.training.split.excluded_ids) == excluded
    parts = split(read_samples(folder), 0, excluded)
    assert sum(len(part) for part in parts) == 16
    assert checkpoint.header.ranges.samples == len(parts.train)


def test_one_sex_only_is_refused(tmp_path):
    folder = write_phantoms(tmp_path / "data", 12, height=96)
    table = folder / "labels.csv"
    table.write_text(table.read_text().replace("False", "True"))
    with pytest.raises(InputError, match="training images show boys"):
        train(make_plan(folder), tmp_path / "run")
