"""Compare a bundle's predictions on this machine with those at export."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.errors import BundleError
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.prediction import is_male
from bakit.runtime import Runtime
from bakit.types import Precision

if TYPE_CHECKING:
    from bakit.bundle import Bundle, Manifest
    from bakit.targets import Backend

ON_DEVICE_MONTHS = {
    Precision.FP32: 0.05,
    Precision.FP16: 0.5,
    Precision.INT8: 1.0,
    Precision.INT8_WEIGHTS: 0.5,
}
"""Largest difference between a device and the exporting machine, whose kernels round differently.
"""

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
        passed: Whether age and box are within the limits.
    """

    path: str
    float_months: float
    expected_months: float
    age_months: float
    box_iou: float
    passed: bool


def allowed_months(manifest: Manifest) -> float:
    """Return the largest difference of an age: a bundle may lower bakit's limit, not raise it."""
    return min(manifest.tolerance_months, ON_DEVICE_MONTHS[manifest.precision])


def check_golden(
    bundle: Bundle, threads: int | None = None, backend: Backend | None = None
) -> list[GoldenCheck]:
    """Run a bundle's golden images.

    The regressor is checked on the crop of the export, independently of the localizer; the
    localizer by the IoU of its box.

    Args:
        bundle: The bundle.
        threads: Threads of the backend; its own choice when None.
        backend: Opens the models; the target's own when None.

    Raises:
        BundleError: If the bundle has no golden images.
        BakitError: If the bundle cannot be opened here.
    """
    if not bundle.manifest.golden:
        message = f"{bundle.root}: no golden image to check predictions with; export it again"
        raise BundleError(message)
    checks = []
    allowed = allowed_months(bundle.manifest)
    with Runtime(bundle, threads, backend=backend) as runtime:
        for golden in bundle.manifest.golden:
            grey = decode(bundle.files.read(golden.path))
            pixels = runtime.preprocess(
                grey, golden.box, inverted=golden.inverted, turn=golden.turn
            )
            age = runtime.regress(pixels, male=is_male(golden.sex))
            whole = Box(0, 0, grey.shape[1], grey.shape[0])
            overlap = (runtime.locate(grey) or whole).iou(golden.box or whole)
            passed = abs(age - golden.bundle_months) <= allowed and overlap >= MIN_BOX_IOU
            checks.append(
                GoldenCheck(
                    path=golden.path,
                    float_months=golden.age_months,
                    expected_months=golden.bundle_months,
                    age_months=age,
                    box_iou=overlap,
                    passed=passed,
                )
            )
    return checks
