"""Generate one phantom: anatomy, pose, layout, exposure, development."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import numpy.typing as npt

from bakit.image.box import bounds
from bakit.phantoms import anatomy, carpals, film, markers, scene, skeleton
from bakit.phantoms.flesh import flesh_map
from bakit.phantoms.pose import draw_pose
from bakit.phantoms.render import bone_map
from bakit.phantoms.shapes import Hand

if TYPE_CHECKING:
    from collections.abc import Collection

    from bakit.image.box import Box

# How often each nuisance is met in a hospital's archive.
_FREQUENCY: Final[dict[str, float]] = {
    "markers": 0.85,
    "collimation": 0.30,
    "tilt": 0.12,
    "low_contrast": 0.10,
    "vignette": 0.35,
    "grain": 0.15,
    "mirrored": 0.03,
    "inverted": 0.03,
    "sixteen_bit": 0.03,
}

NUISANCES: Final[tuple[str, ...]] = tuple(_FREQUENCY)
"""Names of the nuisances of phantoms."""

MIN_HEIGHT: Final = 96
MAX_HEIGHT: Final = 2000

# Small phantoms are rendered larger and averaged, so that they look like shrunken large ones.
_RENDER_ROWS: Final = 320

# The age spread of the RSNA set: mean 127 months, standard deviation 41.
_AGE_KNOTS: Final = (0.0, 0.01, 0.05, 0.15, 0.30, 0.50, 0.70, 0.85, 0.95, 0.99, 1.0)
_AGE_MONTHS: Final = (1.0, 21.0, 46.0, 82.0, 108.0, 132.0, 154.0, 166.0, 184.0, 212.0, 228.0)


@dataclass(frozen=True)
class Phantom:
    """A generated radiograph and its ground truth.

    Attributes:
        image: Grey pixels, (H, W), 8 or 16 bit.
        age_months: Skeletal age.
        male: Sex.
        box: Box of hand and visible forearm inside the field, pixels.
        mask: Mask of hand and visible forearm, (H, W).
        nuisances: Its nuisances, in the order of `NUISANCES`.
    """

    image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    age_months: float
    male: bool
    box: Box
    mask: npt.NDArray[np.bool_]
    nuisances: tuple[str, ...]

    @property
    def inverted(self) -> bool:
        """Whether bones are dark."""
        return "inverted" in self.nuisances


def make_phantom(
    seed: int,
    *,
    age_months: float | None = None,
    male: bool | None = None,
    height: int = 640,
    nuisances: Collection[str] | None = None,
) -> Phantom:
    """Make one phantom.

    Anatomy, pose, layout and exposure depend only on the seed: the same seed at two ages shows the
    same child, and at two heights the same image.

    Args:
        seed: Any integer from 0 on.
        age_months: Skeletal age, 1 to 228; drawn like the RSNA set's when None.
        male: Sex; drawn (54 % boys) when None.
        height: Rows of the image, 96 to 2000.
        nuisances: Nuisances from `NUISANCES`; () for a clean image, drawn with the frequencies of
            real archives when None.

    Returns:
        The phantom.

    Raises:
        ValueError: An argument is out of range or a nuisance is unknown.
    """
    _check(seed, age_months, height, nuisances)
    drawn_age, drawn_male, drawn_nuisances = draw_labels(seed)
    age_months = drawn_age if age_months is None else age_months
    male = drawn_male if male is None else bool(male)
    wanted = drawn_nuisances if nuisances is None else nuisances
    active = tuple(name for name in NUISANCES if name in wanted)

    hand = make_hand(seed, float(age_months), male)
    step = math.ceil(_RENDER_ROWS / height)
    tilted, collimated = "tilt" in active, "collimation" in active
    view = scene.lay_out(
        np.random.default_rng((seed, 2)),
        hand,
        height * step,
        step,
        tilted=tilted,
        collimated=collimated,
    )
    grey, mask = _expose(seed, hand, view, active)
    if step > 1:
        size = (grey.shape[1] // step, height)
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
        mask = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    if "mirrored" in active:
        grey, mask = np.ascontiguousarray(grey[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    image = film.finish(grey, active, np.random.default_rng((seed, 8)))
    return Phantom(image, float(age_months), male, bounds(mask), mask, active)


def draw_labels(seed: int) -> tuple[float, bool, tuple[str, ...]]:
    """Age in months, sex (True for a boy) and nuisances of a seed."""
    rng = np.random.default_rng((seed, 0))
    age, sex = (float(value) for value in rng.random(2))
    chances = zip(_FREQUENCY.items(), rng.random(len(NUISANCES)), strict=True)
    nuisances = tuple(name for (name, frequency), chance in chances if chance < frequency)
    return round(float(np.interp(age, _AGE_KNOTS, _AGE_MONTHS))), sex < 0.542, nuisances


def make_hand(seed: int, age_months: float, male: bool) -> Hand:
    """The hand of one child at one age, before the layout."""
    rng = np.random.default_rng((seed, 1))
    child = anatomy.draw_individual(rng)
    size = anatomy.growth(age_months, male)
    baby = float(np.clip((60.0 - age_months) / 42.0, 0.0, 1.0))
    pose = draw_pose(rng, size, child, baby)
    return Hand(
        tubes=tuple(skeleton.tubular_bones(age_months, male, child, pose, size)),
        pebbles=tuple(carpals.carpal_bones(age_months, male, child, pose, size)),
        flesh=pose.flesh,
    )


def _expose(
    seed: int, hand: Hand, view: scene.Scene, active: tuple[str, ...]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Grey film (0 to 1) and the mask of the visible hand, both at the rendered size."""
    camera = view.camera
    bone = bone_map(hand, camera, (seed, 3))
    flesh, inside = flesh_map(hand.flesh, camera, (seed, 4))
    tilted = "tilt" in active and "collimation" not in active  # with a sharp edge
    field = view.field(0.15 if tilted else 0.8)
    mask = inside & (field > 0.5)
    extra = np.zeros(camera.shape, dtype=np.float32)
    if "vignette" in active:
        extra += film.vignette(camera.shape, np.random.default_rng((seed, 5)))
    if "markers" in active:
        markers.add_marker(extra, inside, field, np.random.default_rng((seed, 6)))
    rng = np.random.default_rng((seed, 7))
    exposure = film.draw_exposure(rng)
    seen = film.attenuate(flesh, bone, extra, exposure, camera.scale)
    speckle = np.random.default_rng((seed, 9))
    film.add_noise(seen, exposure, camera.scale, "grain" in active, speckle)
    grey = film.develop(seen, mask, exposure, camera.scale)
    if not view.whole:
        grey = film.frame(grey, field, tilted, camera.scale, rng)
    return grey, mask


def _check(
    seed: int, age_months: float | None, height: int, nuisances: Collection[str] | None
) -> None:
    if seed < 0:
        message = f"seed must not be negative, got {seed}"
        raise ValueError(message)
    low, high = anatomy.AGE_RANGE_MONTHS
    if age_months is not None and not low <= age_months <= high:
        message = f"age_months must be {low:g} to {high:g}, got {age_months:g}"
        raise ValueError(message)
    if not MIN_HEIGHT <= height <= MAX_HEIGHT:
        message = f"height must be {MIN_HEIGHT} to {MAX_HEIGHT} pixels, got {height}"
        raise ValueError(message)
    unknown = sorted(set(nuisances or ()) - set(NUISANCES))
    if unknown:
        message = f"unknown nuisance {', '.join(unknown)}; known are {', '.join(NUISANCES)}"
        raise ValueError(message)
