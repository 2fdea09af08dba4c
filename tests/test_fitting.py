"""The training loop itself: learning, clipping, divergence, and the progress file."""

import json

import msgspec
import pytest
import torch

from bakit.errors import InputError
from bakit.files import write_file
from bakit.model.recipes import get_recipe
from bakit.model.regressor import Regressor
from bakit.settings import Architecture
from bakit.training import module
from bakit.training.callbacks import RunProgress
from bakit.training.crops import Part
from bakit.training.fitting import Hardware, fit
from tests.benchmarks import train_speed

CPU = Hardware("cpu", threads=1)
QUICK = get_recipe("scratch", epochs=2)


def make_noise(count):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 96, 96), dtype=torch.uint8, generator=generator)
    return Part(images, torch.zeros(count, 1), torch.rand(count, 1, generator=generator) * 200)


def test_learning_reduces_the_error(tmp_path):
    """Brightness that says the age is learned within a few epochs."""
    generator = torch.Generator().manual_seed(0)
    ages = torch.rand(64, 1, generator=generator) * 200
    images = (ages[:, :, None, None] * 255 / 200).expand(64, 1, 96, 96).to(torch.uint8)
    part = Part(images.contiguous(), torch.zeros(64, 1), ages)
    recipe = get_recipe(
        "scratch",
        epochs=8,
        batch_size=8,
        contrast=0.0,
        brightness=0.0,
        background=0.0,
        average=0.5,
    )
    torch.manual_seed(0)
    model = Regressor(Architecture(head_layers=1), float(ages.mean()), float(ages.std()))
    guess = float((ages - ages.mean()).abs().mean())

    fitted = fit(model, part, part, recipe, tmp_path, hardware=CPU)

    assert fitted.best.val_mae_months < 0.7 * guess


def test_a_loss_that_is_not_finite_ends_the_run_at_its_update(tmp_path, monkeypatch):
    part, recipe = make_noise(16), msgspec.structs.replace(QUICK, batch_size=8)
    model = Regressor(Architecture(head_layers=1), 100.0, 50.0)
    calls = []
    healthy = module._LOSSES["huber"]

    def fail(output, target):
        calls.append(1)
        return healthy(output, target) * (torch.nan if len(calls) == 4 else 1)

    monkeypatch.setitem(module._LOSSES, "huber", fail)
    text = r"the loss of update 4, in epoch 2, is nan; lower --learning-rate \(now 0.04\) or --clip"
    with pytest.raises(InputError, match=text):
        fit(model, part, part, recipe, tmp_path, hardware=CPU)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 2
    # The state of the first epoch is there to go on from.
    fitted = fit(model, part, part, recipe, tmp_path, hardware=CPU)
    assert len(fitted.history) == 2
    assert len(calls) == 6


def test_gradients_are_clipped(tmp_path):
    """At a learning rate of 1, a single update moves the weights by the norm."""
    part = make_noise(8)
    moved = {}
    for norm in (0.0, 0.01):
        changes = {"batch_size": 8, "learning_rate": 1.0, "clip_norm": norm, "average": 0.0}
        recipe = get_recipe("paper", epochs=1, pretrained="none", **changes)
        torch.manual_seed(0)
        model = Regressor(Architecture(head_layers=1), 100.0, 50.0)
        before = [value.detach().clone() for value in model.parameters()]
        fit(model, part, part, recipe, tmp_path / f"{norm}", hardware=CPU)
        steps = [new.detach() - old for new, old in zip(model.parameters(), before, strict=True)]
        moved[norm] = float(torch.cat([step.flatten() for step in steps]).norm())
    assert moved[0.01] == pytest.approx(0.01, rel=0.01)
    assert moved[0.0] > 0.1


def test_progress_is_in_a_file(tmp_path, monkeypatch):
    part, recipe = make_noise(16), msgspec.structs.replace(QUICK, batch_size=4)
    model = Regressor(Architecture(head_layers=1), 100.0, 50.0)
    written = []

    def note(path, data):
        if path.name == "progress.json":
            written.append(msgspec.json.decode(data, type=RunProgress))
        write_file(path, data)

    monkeypatch.setattr("bakit.training.callbacks.write_file", note)
    monkeypatch.setattr("bakit.training.callbacks._EVERY_S", 0.0)
    fitted = fit(model, part, part, recipe, tmp_path, hardware=CPU)

    last = msgspec.json.decode((tmp_path / "progress.json").read_bytes(), type=RunProgress)
    assert last == written[-1]
    # After every update, and after every epoch.
    assert [p.update for p in written] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert [p.best_epoch for p in written[:5]] == [None] * 4 + [1]
    assert (last.epoch, last.epochs, last.updates, last.eta_s) == (2, 2, 8, 0)
    assert (last.best_epoch, last.best_val_mae_months) == (
        fitted.best.epoch,
        fitted.best.val_mae_months,
    )
    assert all(p.images_per_s > 0 for p in written)


def test_the_benchmark_of_the_speed_runs(monkeypatch, capsys):
    words = ["train_speed.py", "--images=8", "--rounds=1", "--batch-size=4", "--size=32"]
    monkeypatch.setattr("sys.argv", words)
    train_speed.main()
    assert json.loads(capsys.readouterr().out)["ratio_median"] > 0
