"""Parameters in checkpoints and manifests, and how these documents are decoded."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec

from bakit.types import BoxRule

LocalizerForm: TypeAlias = Literal["loop", "unrolled", "winograd"]
"""SGD steps as one ONNX Loop, as separate nodes for each step, or as a Loop with fewer products."""

MULTIPLE = 32
"""Total stride of the backbone: image sizes are multiples of it, except the paper's."""

MAX_IMAGE_SIZE = 2048
"""Largest image size, in pixels: memory grows with its square."""

PAPER_SIZES = (224, 500, 700)
"""Image sizes of the paper's Table 2, in pixels."""

GREY_MEAN = 0.449
"""Mean of the regressor's normalisation: ImageNet's three channel means, averaged."""

GREY_SD = 0.226
"""Standard deviation of the regressor's normalisation: ImageNet's three, averaged."""


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shape of the regressor, the paper's Table 1, for any image size.

    Attributes:
        head_layers: Hidden layers of the MLP head; 2 gives 7,606,825 parameters.
        sex: Whether the child's sex is an input.
    """

    head_layers: Annotated[int, msgspec.Meta(ge=1, le=4)] = 2
    sex: bool = True


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a radiograph becomes the regressor's input.

    Attributes:
        image_size: Side of the square input, in pixels.
        localize: Whether the image is cropped to the localizer's box.
        margin: Growth of the box on each side before the crop, as a share of the box's side.
        equalize: Whether the crop's histogram is equalized.
    """

    image_size: int = PAPER_SIZES[0]
    localize: bool = True
    margin: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    equalize: bool = True

    def __post_init__(self) -> None:
        """Reject unsupported sizes."""
        check_image_size(self.image_size)


class UnrolledSettings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="unrolled"
):
    """The unrolled localizer (``bakit.hand.unrolled``); p, q, lambda, mu as in the paper.

    Steps, rates and loss weights are the paper's. Its p = q = 90 take about 12 times as long as 16
    and give no better boxes on real radiographs; nor does a working image above 64 pixels.

    Attributes:
        size: Side of the square working image, in pixels.
        features: Channels of the two 3x3 convolutions, p.
        labels: Upper bound of distinct labels, q.
        steps: SGD updates.
        learning_rate: SGD learning rate.
        momentum: SGD momentum.
        similarity: Weight of the similarity loss, lambda.
        continuity: Weight of the spatial continuity loss, mu.
        seed: Seed of the initial weights, which are stored in the checkpoint.
        box_rule: How the hand is chosen among the regions.
    """

    size: Annotated[int, msgspec.Meta(ge=16, le=1024)] = 64
    features: Annotated[int, msgspec.Meta(ge=2, le=512)] = 16
    labels: Annotated[int, msgspec.Meta(ge=2, le=512)] = 16
    steps: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 50
    learning_rate: float = 0.1
    momentum: float = 0.9
    similarity: float = 4.0
    continuity: float = 1.0
    seed: int = 0
    box_rule: BoxRule = "score"


class StudentSettings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="student"
):
    """A trained segmentation network (``bakit.hand.student``), which has no rule to choose.

    Attributes:
        size: Side of the square working image, in pixels; a multiple of 2 to the number of levels.
        widths: Channels of each level, from full size down.
    """

    box_rule: ClassVar[BoxRule] = "score"

    size: Annotated[int, msgspec.Meta(ge=32, le=1024)] = 64
    widths: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1, le=512)], ...],
        msgspec.Meta(min_length=2, max_length=6),
    ] = (12, 24, 40, 56, 64)

    def __post_init__(self) -> None:
        """Reject sizes that cannot be halved at every level."""
        multiple = 1 << (len(self.widths) - 1)
        if self.size % multiple:
            message = f"size {self.size} is not a multiple of {multiple}"
            raise ValueError(message)


LocalizerSettings: TypeAlias = UnrolledSettings | StudentSettings
"""Settings of a localizer; in a document, the field ``method`` names the method."""

PAPER_LOCALIZER = UnrolledSettings(features=90, labels=90, box_rule="literal")
"""The paper's localizer; the size of its image, which the paper does not state, is ours."""

METHODS = ("student", "unrolled")
"""Names of the methods, the default first."""


FLOAT_LAYERS = ("age_months", "block1/depthwise", "head/sex", "stem/conv")
"""Layers that stay float by default: what ``bakit calibrate --search`` found for the shipped
checkpoint. In INT8, the first two layers lose the most accuracy and have the fewest multiply-adds;
the last layer's output is months."""


class Ranges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Activation ranges for INT8, from training images, and the layers that stay float.

    Attributes:
        method: How ranges follow from the observed values (``bakit.calib.methods``).
        samples: Number of calibration images.
        calibration_sha256: Digest of the calibration set.
        weights_sha256: Digest of the regressor's weights.
        tensors: Lowest and highest value by tensor name of the exported regressor.
        float_layers: Names of convolutions and dense layers of the exported graph that stay float.
        images_sha256: Digests of the images (``bakit.image.read.pixel_digest``), which benchmarks
            reject.
        id_hashes: Short hashes of their ids (``bakit.data.overlap``), which are rejected at any
            size; empty in older files.
    """

    method: str
    samples: int
    calibration_sha256: str
    weights_sha256: str
    tensors: dict[str, tuple[float, float]]
    float_layers: tuple[str, ...] = FLOAT_LAYERS
    images_sha256: tuple[str, ...] = ()
    id_hashes: str = ""


VALIDATION_SHARE = 0.2
"""Share of the images in the validation split, by default: the paper's 7:2:1."""

MIN_VALIDATION_SHARE, MAX_VALIDATION_SHARE = 0.02, 0.5


class SplitRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Digests of the images that a model was trained, selected and tested on.

    Attributes:
        seed: Seed of the split.
        excluded_ids: Ids that are in no part.
        ids_sha256: Digest of the ids of each part: train, validation, test.
        id_hashes: Short hashes of the ids of each part (``bakit.data.overlap``), which recognize
            images in other folders; empty in older records.
        validation_share: Share of the images in the validation split.
    """

    seed: int
    excluded_ids: tuple[str, ...]
    ids_sha256: dict[str, str]
    id_hashes: dict[str, str] = {}
    validation_share: Annotated[
        float, msgspec.Meta(ge=MIN_VALIDATION_SHARE, le=MAX_VALIDATION_SHARE)
    ] = VALIDATION_SHARE


def check_image_size(size: int) -> None:
    """Reject an image size that the regressor does not support.

    Raises:
        ValueError: If ``size`` is neither a multiple of 32 from 96 to 2048 nor one of the paper's.
    """
    if size in PAPER_SIZES or (3 * MULTIPLE <= size <= MAX_IMAGE_SIZE and size % MULTIPLE == 0):
        return
    message = (
        f"image size {size} is not possible: use a multiple of {MULTIPLE} from {3 * MULTIPLE} to "
        f"{MAX_IMAGE_SIZE}, or one of the paper's {', '.join(map(str, PAPER_SIZES))}"
    )
    raise ValueError(message)


def upgraded(document: dict[str, Any]) -> dict[str, Any]:
    """Return an older checkpoint's or manifest's document in today's form.

    Version 1 had a single method of localization, without a name. INT8 ranges with a recipe may be
    of equalized weights, which are no more; they are left out, and have to be computed again.
    """
    document = {name: value for name, value in document.items() if name != "int8_recipe"}
    ranges = document.get("ranges")
    if isinstance(ranges, dict) and "recipe" in ranges:
        document["ranges"] = None
    localizer = document.get("localizer")
    if document.get("schema_version") != 1 or not isinstance(localizer, dict):
        return document
    return document | {"schema_version": 2, "localizer": {"method": "unrolled"} | localizer}
