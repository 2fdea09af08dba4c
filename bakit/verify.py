"""Compare a bundle's predictions on this machine with those at export."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from bakit.errors import BundleError
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.prediction import is_male
from bakit.runtime import Runtime
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.bundle import Bundle, Manifest
    from bakit.targets import Backend

MOST_MONTHS = {
    Precision.FP32: 0.5,
    Precision.FP16: 0.5,
    Precision.INT8: 6.0,
    Precision.INT8_WEIGHTS: 1.0,
}
"""Largest tolerance of the mean change of the golden ages; a bundle may lower it, not raise it."""

MIN_BOX_IOU = 0.7
"""Smallest IoU of a golden image's box with the one at export. Label maps of two machines differ in
single pixels after 50 SGD steps, boxes hardly."""


class GoldenCheck(msgspec.Struct, frozen=True):
    """One golden image on this machine.

    Attributes:
        path: The image inside the bundle.
        float_months: Age predicted by the float model.
        expected_months: Age predicted by the bundle at export.
        age_months: Age predicted on this machine for the same crop.
        box_iou: IoU of this machine's box with the one at export.
        whole_months: Age predicted by the whole graph for the image; None if there is none.
        provider: Library and device that ran the regressor.
        passed: Whether its box and the mean change of all ages are within the limits.
    """

    path: str
    float_months: float
    expected_months: float
    age_months: float
    box_iou: float
    passed: bool
    whole_months: float | None = None
    provider: str = ""


def allowed_months(manifest: Manifest) -> float:
    """Return the largest mean change of the golden ages, in months."""
    return min(manifest.tolerance_months, MOST_MONTHS[manifest.precision])


def mean_change(ages_months: Sequence[float], expected_months: Sequence[float]) -> float:
    """Return the mean absolute change of ages, in months.

    Single ages of a correct INT8 engine move by months, since a difference of the last bit becomes
    a whole step where it is rounded; the mean of many does not.
    """
    pairs = zip(ages_months, expected_months, strict=True)
    return math.fsum(abs(age - expected) for age, expected in pairs) / len(ages_months)


def golden_failure(
    ages_months: Sequence[float], manifest: Manifest, *, downgraded: bool = False
) -> str | None:
    """Return why a device's golden ages are not those of the bundle; None if they are.

    Ages are in the order of the manifest. A downgraded device computed the float model in place of
    INT8.
    """
    golden = manifest.golden
    exported = [item.age_months if downgraded else item.bundle_months for item in golden]
    change = mean_change(ages_months, exported)
    allowed = allowed_months(manifest)
    if change <= allowed:  # NaN fails
        return None
    return (
        f"its golden ages differ by {change:.3g} months on average from those at export, limit "
        f"{allowed:g}: the device computes another model, do not use its numbers"
    )


def check_golden(
    bundle: Bundle, threads: int | None = None, backend: Backend | None = None
) -> list[GoldenCheck]:
    """Run a bundle's golden images.

    The regressor is checked on the crop of the export, independently of the localizer; the
    localizer by the IoU of its box; the whole graph, if there is one, on the whole image.

    ``backend`` opens the models; the target's own when None.

    Raises:
        BundleError: If the bundle has no golden images.
        BakitError: If the bundle cannot be opened here.
    """
    if not bundle.manifest.golden:
        message = f"{bundle.root}: no golden image to check predictions with; export it again"
        raise BundleError(message)
    checks = []
    whole_ages = []
    with Runtime(bundle, threads, backend=backend, whole=bundle.has_whole) as runtime:
        for golden in bundle.manifest.golden:
            data = bundle.files.read(golden.path)
            grey = decode(data)
            whole_age = None
            if bundle.has_whole:
                whole_age = runtime.predict(data, golden.sex, allow_rejected=True).age_months
                assert whole_age is not None
                whole_ages.append(whole_age)
            pixels = runtime.preprocess(
                grey, golden.box, inverted=golden.inverted, turn=golden.turn
            )
            age = runtime.regress(pixels, male=is_male(golden.sex))
            whole = Box(0, 0, grey.shape[1], grey.shape[0])
            overlap = (runtime.locate(grey) or whole).iou(golden.box or whole)
            checks.append(
                GoldenCheck(
                    path=golden.path,
                    float_months=golden.age_months,
                    expected_months=golden.bundle_months,
                    age_months=age,
                    box_iou=overlap,
                    passed=overlap >= MIN_BOX_IOU,
                    whole_months=whole_age,
                    provider=runtime.provider,
                )
            )
    measured = [[check.age_months for check in checks], *([whole_ages] if whole_ages else [])]
    if any(golden_failure(ages, bundle.manifest) for ages in measured):
        checks = [msgspec.structs.replace(check, passed=False) for check in checks]
    return checks
