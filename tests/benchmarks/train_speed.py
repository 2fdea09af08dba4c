"""Images per second of training, beside a plain PyTorch loop over the same model and loader.

    python tests/benchmarks/train_speed.py

Both train in turns, a short run of each after the other, so that a busy machine slows both. Prints
the medians and their ratio: what lightning, the average of weights and the logs cost.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from bakit.model.recipes import Recipe, get_recipe
from bakit.model.regressor import Regressor
from bakit.settings import Architecture
from bakit.training.augment import augment
from bakit.training.crops import Part
from bakit.training.fitting import Hardware, fit
from bakit.training.module import Training


def main() -> None:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=224, help="side of the images, in pixels")
    given = parser.parse_args()
    recipe = get_recipe("scratch", epochs=1, batch_size=given.batch_size)
    part = _images(given.images, given.size)
    held_out = _images(2, given.size)
    speeds: dict[str, list[float]] = {"plain": [], "bakit": []}
    for _ in range(given.rounds):
        speeds["plain"].append(_plain(part, held_out, recipe))
        speeds["bakit"].append(_ours(part, held_out, recipe))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ratios = [b / p for p, b in zip(speeds["plain"], speeds["bakit"], strict=True)]
    found = {f"{name}_images_per_s": round(value, 1) for name, value in medians.items()}
    print(json.dumps(found | {"ratio_median": round(statistics.median(ratios), 3)}))


def _images(count: int, size: int) -> Part:
    """Return noise: the speed does not depend on what is seen."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 1, size, size), np.uint8)
    ages = generator.uniform(12, 220, (count, 1)).astype(np.float32)
    return Part(torch.from_numpy(images), torch.zeros(count, 1), torch.from_numpy(ages))


def _plain(part: Part, held_out: Part, recipe: Recipe) -> float:
    """Train one epoch by a loop without any framework; return images per second."""
    model = Regressor(Architecture(), 120.0, 40.0)
    module = Training(model, recipe, part, held_out, seed=0)
    module.model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4, nesterov=True)
    loader = module.train_loader(0, 1)
    started, seen = time.perf_counter(), 0
    for images, sexes, ages, rows in loader:
        pixels = augment(images.float() / 255, rows, recipe)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        loss = functional.mse_loss(model.standardized(pixels, sexes), (ages - 120) / 40)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(ages)
    return seen / (time.perf_counter() - started)


def _ours(part: Part, held_out: Part, recipe: Recipe) -> float:
    """Train one epoch by ``bakit.training``; return images per second of it."""
    model = Regressor(Architecture(), 120.0, 40.0)
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(model, part, held_out, recipe, Path(folder), hardware=Hardware("cpu"))
    seen = len(part.ages_months) // recipe.batch_size * recipe.batch_size
    return seen / fitted.history[0].seconds


if __name__ == "__main__":
    main()
