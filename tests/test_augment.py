"""Random changes of training images, and the order in which they come."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bakit.model.recipes import RECIPES, get_recipe
from bakit.training.augment import DRAWS, augment, random_rows
from bakit.training.module import EpochBatches

STILL = get_recipe(
    "paper", zoom=(1.0, 1.0), shift=0.0, contrast=0.0, brightness=0.0, rotation_degrees=0.0
)


def test_keeps_shape_and_range_and_follows_the_rows():
    images = torch.rand(5, 1, 96, 96)
    rows = random_rows(5, 0, 0)
    results = [augment(images, each, RECIPES["scratch"]) for each in (rows, rows, rows.flip(0))]
    assert results[0].shape == images.shape
    assert results[0].min() >= 0
    assert results[0].max() <= 1
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_an_image_is_changed_alike_in_any_batch():
    images = torch.rand(6, 1, 96, 96)
    rows = random_rows(6, 0, 3)
    together = augment(images, rows, RECIPES["scratch"])
    alone = torch.cat(
        [augment(images[i : i + 1], rows[i : i + 1], RECIPES["scratch"]) for i in range(6)]
    )
    # Not to the bit: vectorized sums depend on the position in memory.
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_nothing_asked_is_the_identity():
    images = torch.rand(3, 1, 96, 96)
    torch.testing.assert_close(
        augment(images, random_rows(3, 0, 0), STILL), images, atol=1e-5, rtol=0
    )


def test_removed_background_is_what_equalizing_without_it_gives():
    """A ramp holds every grey equally often, as an equalized image does."""
    ramp = torch.linspace(0, 1, 96 * 96).reshape(1, 1, 96, 96)
    recipe = get_recipe("paper", **_numbers(background=1.0))
    rows = torch.full((1, len(DRAWS)), 0.5)
    changed = augment(ramp, rows, recipe)
    # A draw of 0.5 blackens the darkest quarter; the rest fills 0..1 evenly.
    assert float((changed == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    rest = np.sort(changed[changed > 0].numpy())
    np.testing.assert_allclose(rest, np.linspace(0, 1, len(rest)), atol=0.001)


def test_blur_keeps_the_mean_and_lowers_the_variance():
    noise = torch.rand(8, 1, 96, 96)
    recipe = get_recipe("paper", **_numbers(blur=1.0))
    rows = torch.full((8, len(DRAWS)), 0.5)
    rows[:, DRAWS.index("is_blurred")] = 0.1
    rows[:, DRAWS.index("blur")] = 1.0
    blurred = augment(noise, rows, recipe)
    assert float(blurred.mean()) == pytest.approx(float(noise.mean()), abs=0.01)
    assert float(blurred.std()) < 0.5 * float(noise.std())


def _numbers(**changes):
    return {
        "zoom": (1.0, 1.0),
        "shift": 0.0,
        "contrast": 0.0,
        "brightness": 0.0,
        "rotation_degrees": 0.0,
        **changes,
    }


def test_epochs_differ_and_repeat():
    assert torch.equal(random_rows(7, 1, 2), random_rows(7, 1, 2))
    assert not torch.equal(random_rows(7, 1, 2), random_rows(7, 1, 3))
    assert not torch.equal(random_rows(7, 1, 2), random_rows(7, 2, 2))


@given(st.integers(4, 60), st.integers(1, 4), st.integers(1, 4), st.integers(0, 5))
def test_processes_share_the_batches_of_one(count, share, processes, epoch):
    size = share * processes
    one = EpochBatches(count, size, seed=3)
    many = [EpochBatches(count, size, 3, rank, processes) for rank in range(processes)]
    for sampler in (one, *many):
        sampler.set_epoch(epoch)
    whole = [batch for _, batch in one]
    shared = [[i for _, batch in group for i in batch] for group in zip(*many, strict=True)]
    assert shared == whole
    assert len(whole) == len(one) == count // size
    seen = [index for batch in whole for index in batch]
    assert len(set(seen)) == len(seen)
