"""Training, from a labelled folder to a checkpoint that can be exported."""

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bakit.boxes import find_boxes
from bakit.checkpoint import Checkpoint
from bakit.cli import main
from bakit.dataset import read_samples, split
from bakit.errors import InputError
from bakit.export import export_bundle
from bakit.export.onnx_localizer import localizer_model
from bakit.export.onnx_writer import serialize
from bakit.fitting import Part, augment, fit
from bakit.localizer import initial_weights
from bakit.models import Regressor
from bakit.phantoms import write_phantoms
from bakit.recipes import RECIPES, get_recipe
from bakit.settings import Architecture, LocalizerSettings, Preprocessing
from bakit.targets import Precision
from bakit.train import TrainingPlan, train

TINY = LocalizerSettings(size=32, features=4, labels=4, steps=2)
QUICK = get_recipe("scratch", epochs=2, batch_size=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("train") / "data", 20, height=96)


def make_plan(data, **changes):
    plan = {
        "data": data,
        "recipe": QUICK,
        "architecture": Architecture(head_layers=1),
        "preprocessing": Preprocessing(),
        "localizer": TINY,
        "description": "twenty phantoms",
    }
    return TrainingPlan(**plan | changes)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("train") / "run"
    done = []
    checkpoint = train(make_plan(data), out, workers=1, progress=False, on_image=done.append)
    return checkpoint, out, sum(done)


def test_checkpoint_carries_its_record(trained, data):
    checkpoint, out, localized = trained
    record = checkpoint.header.training
    parts = split(read_samples(data), 0)
    ages = [sample.age_months for sample in parts.train]

    assert checkpoint.path == out / "best.safetensors"
    assert localized == 20
    assert checkpoint.header.mean_months == pytest.approx(np.mean(ages), abs=1e-3)
    assert checkpoint.header.sd_months == pytest.approx(np.std(ages, ddof=1), abs=1e-3)
    assert (record.data, record.recipe["epochs"]) == ("twenty phantoms", 2)
    assert {name: m.samples for name, m in record.metrics.items()} == {"validation": 4, "test": 2}
    assert checkpoint.header.ranges.samples == len(parts.train) == 14


def test_a_run_that_is_cut_off_leaves_its_best_epoch(data, tmp_path, monkeypatch):
    def fail(*_, **__):
        message = "cut off"
        raise RuntimeError(message)

    plan = make_plan(data, preprocessing=Preprocessing(localize=False))
    with monkeypatch.context() as patch:
        patch.setattr("bakit.train.score", fail)
        with pytest.raises(RuntimeError, match="cut off"):
            train(plan, tmp_path, progress=False)

    assert not (tmp_path / "best.safetensors").exists()
    again = get_recipe("scratch", epochs=1, batch_size=4)
    again = msgspec.structs.replace(again, pretrained=str(tmp_path / "unfinished.safetensors"))
    plan = make_plan(data, recipe=again, preprocessing=Preprocessing(localize=False))
    train(plan, tmp_path, progress=False)
    assert (tmp_path / "best.safetensors").exists()
    assert not (tmp_path / "unfinished.safetensors").exists()


def test_log_has_a_row_for_each_epoch(trained):
    rows = (trained[1] / "logs" / "metrics.csv").read_text().splitlines()
    assert "val_mae_months" in rows[0]
    assert {row.split(",")[0] for row in rows[1:]} >= {"0", "1"}


def test_checkpoint_exports_and_its_reference_answers_hold(trained, tmp_path):
    bundle = export_bundle(trained[0], "onnx", Precision.INT8, tmp_path / "bundle")
    assert bundle.manifest.training_data.startswith("twenty phantoms")


def test_same_seed_same_weights(trained, data, tmp_path):
    again = train(make_plan(data), tmp_path / "again", workers=1, progress=False)
    for name, value in trained[0].regressor.items():
        np.testing.assert_array_equal(value, again.regressor[name], err_msg=name)


def test_excluded_ids_are_in_no_part(data, tmp_path):
    few = write_phantoms(tmp_path / "few", 3, height=96)
    excluded = {sample.id for sample in read_samples(few)}
    recipe = msgspec.structs.replace(QUICK, epochs=1)
    plan = make_plan(
        data, recipe=recipe, exclude=(few,), preprocessing=Preprocessing(localize=False)
    )
    checkpoint = train(plan, tmp_path / "run", progress=False)
    record = checkpoint.header.training
    parts = split(read_samples(data), 0, excluded)

    assert set(record.split.excluded_ids) == excluded
    assert sum(len(part) for part in parts) == 17
    assert checkpoint.header.ranges.samples == len(parts.train)


def test_learning_reduces_the_error():
    """Brightness that says the age is learned within a few epochs."""
    generator = torch.Generator().manual_seed(0)
    ages = torch.rand(64, 1, generator=generator) * 200
    images = (ages[:, :, None, None] * 255 / 200).expand(64, 1, 96, 96).to(torch.uint8)
    part = Part(images.contiguous(), torch.zeros(64, 1), ages)
    recipe = get_recipe(
        "scratch", epochs=6, batch_size=8, contrast=0.0, brightness=0.0, rotation_degrees=0.0
    )
    torch.manual_seed(0)
    model = Regressor(Architecture(head_layers=1), float(ages.mean()), float(ages.std()))
    guess = float((ages - ages.mean()).abs().mean())

    # The log goes beside nothing that matters.
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(model, part, part, recipe, Path(folder) / "logs", progress=False)

    assert fitted.mae_months < 0.7 * guess


def test_augmentation_keeps_shape_and_range_and_is_seeded():
    images = torch.rand(5, 1, 96, 96)
    results = [
        augment(images, RECIPES["scratch"], torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert results[0].shape == images.shape
    assert results[0].min() >= 0
    assert results[0].max() <= 1
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_no_augmentation_is_the_identity():
    images = torch.rand(3, 1, 96, 96)
    still = get_recipe(
        "paper", zoom=(1.0, 1.0), shift=0.0, contrast=0.0, brightness=0.0, rotation_degrees=0.0
    )
    torch.testing.assert_close(augment(images, still, torch.Generator()), images, atol=1e-5, rtol=0)


def test_boxes_are_remembered(data, tmp_path):
    paths = [sample.path for sample in read_samples(data)[:3]]
    model = serialize(localizer_model(initial_weights(TINY), TINY))
    cache = tmp_path / "boxes.json"
    first = find_boxes(paths, model, TINY.size, cache, workers=1)
    remembered = msgspec.json.decode(cache.read_bytes())
    # Changed on purpose: only a remembered box can come back like this.
    cache.write_bytes(msgspec.json.encode(dict.fromkeys(remembered, (1, 2, 3, 4))))

    second = find_boxes(paths, model, TINY.size, cache, workers=1)

    assert len(first) == 3
    assert second == [(1, 2, 3, 4)] * 3


def test_too_few_images_for_a_batch(data, tmp_path):
    plan = make_plan(data, recipe=get_recipe("scratch", batch_size=64))
    with pytest.raises(InputError, match="fewer than a batch of 64"):
        train(plan, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_unknown_recipe_names_the_known_ones():
    with pytest.raises(InputError, match="paper, scratch"):
        get_recipe("nope")


def test_paper_recipe_is_the_papers():
    paper = RECIPES["paper"]
    assert (paper.batch_size, paper.epochs, paper.step_epochs, paper.momentum) == (10, 160, 30, 0.9)
    assert (paper.schedule, paper.pretrained, paper.nesterov) == ("step", "imagenet", False)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--image-size", "100"], "multiple of 32"),
        (["--recipe", "scratch", "--pretrained", "nowhere.pth"], "no such weights file"),
    ],
)
def test_cli_refuses_bad_options(data, tmp_path, arguments, text):
    options = ["train", str(data), "--out", str(tmp_path / "run"), "--no-localize"]
    result = CliRunner().invoke(main, [*options, "--batch-size", "4", *arguments])
    assert result.exit_code == 2, result.output
    assert text in result.output
    assert not list(tmp_path.rglob("*.safetensors"))


def test_cli_prints_the_metrics(data, tmp_path):
    options = ["train", str(data), "--out", str(tmp_path / "run"), "--recipe", "scratch"]
    options += ["--epochs", "1", "--batch-size", "4", "--no-localize", "--head-layers", "1"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    metrics = Checkpoint.read(tmp_path / "run" / "best.safetensors").header.training.metrics
    assert f"test: MAE {metrics['test'].mae_months:.2f} months on 2 images" in result.output
