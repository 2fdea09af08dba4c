"""A target without a model, for tests of code that embeds bakit: no library, no waiting.

Its localizer labels every pixel brighter than the image's mean as 1; as a student it gives these
pixels the probability 1. Its regressor returns the age in its file plus the image's mean grey and
the sex, so outputs depend on inputs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from bakit.bundle import Artifact
from bakit.errors import BundleError
from bakit.files import sha256
from bakit.session import Closing, specs_of
from bakit.targets import Target
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.bundle import Role
    from bakit.model.checkpoint import Checkpoint
    from bakit.sealed import SealedFiles
    from bakit.session import Tensors
    from bakit.targets import ExportRequest

FAKE = Target(
    name="fake",
    title="no model at all, for tests",
    suffix=".json",
    precisions=frozenset(Precision),
    exporter="bakit.backends.fake",
    backend="bakit.backends.fake",
    extra="ort",
    portable=True,
    verified="every test run",
)


class FakeSession(Closing):
    """A model made of arithmetic.

    Args:
        role: ``localizer`` or ``regressor``.
        age_months: Age of a black image of a girl.
        place: Name of the localizer's output: ``labels`` (int32) or ``hand`` (float32).
    """

    provider = "fake"
    concurrent = True

    def __init__(self, role: str, age_months: float = 100.0, place: str = "labels") -> None:
        self.role = role
        self.age_months = age_months
        self.place = place
        self.closed = False

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference."""
        image = feeds["image"]
        mean = float(image.astype(np.float64).mean())
        if self.role == "localizer":
            dtype = np.float32 if self.place == "hand" else np.int32
            return {self.place: (image[0, 0] > mean).astype(dtype)}
        male = float(feeds["sex"].item()) if "sex" in feeds else 0.0
        age = self.age_months + mean + male
        return {"age_months": np.array([[age]], np.float32)}

    def close(self) -> None:
        """Set ``closed``."""
        self.closed = True


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> FakeSession:
    """Open a file that ``export`` wrote."""
    del threads
    data = files.read(artifact.path)
    try:
        age_months = float(json.loads(data)["age_months"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        message = f"{files.root / artifact.path}: not a model of the fake target"
        raise BundleError(message) from error
    return FakeSession(artifact.role, age_months, artifact.outputs[0].name)


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write a number for each role: the checkpoint's mean age."""
    del request
    header = checkpoint.header
    data = json.dumps({"age_months": header.mean_months}).encode()
    artifacts = []
    roles: tuple[Role, ...] = ("localizer", "regressor")
    for role in roles:
        specs = specs_of(role, header.architecture, header.preprocessing, header.localizer)
        (out / f"{role}.json").write_bytes(data)
        artifacts.append(Artifact(role, f"{role}.json", sha256(data), *specs))
    return artifacts
