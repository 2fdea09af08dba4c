"""Profiles: the limits of a place where a graph runs, as data.

Sources: the operator tables and change logs of onnx-tensorrt 8.4, 8.5, 10.6 and 10.15, the headers
and release notes of TensorRT, and what ONNX Runtime 1.10 rejects. ``docs/check.md`` gives each
fact's source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bakit.errors import BundleError, InputError, unknown

if TYPE_CHECKING:
    from bakit.bundle import Build

Version = tuple[int, int]
"""Major and minor version of TensorRT."""


class Profile(NamedTuple):
    """A place where a graph runs.

    Attributes:
        name: Its name on the command line.
        title: Its description.
        oldest: Oldest TensorRT of the profile; a graph must pass its rules.
        newest: Newest TensorRT of the profile.
        opsets: Lowest and highest version of the default operator set that its parser supports.
        max_ir: Newest format version that its parser, or ONNX Runtime beside it, supports.
        old_onnxruntime: Whether ONNX Runtime 1.10 must read the file too: it rejects newer format
            versions and unknown operator sets, used or not.
        int8: Whether the hardware computes in INT8.
        many_nodes: Number of nodes from which a build may run out of memory; None for no limit.
    """

    name: str
    title: str
    oldest: Version
    newest: Version
    opsets: tuple[int, int]
    max_ir: int
    old_onnxruntime: bool = False
    int8: bool = True
    many_nodes: int | None = None

    @property
    def tensorrt(self) -> str:
        """Its versions of TensorRT, such as ``10.0 to 10.16``."""
        first, last = (".".join(map(str, version)) for version in (self.oldest, self.newest))
        return first if first == last else f"{first} to {last}"

    def uses(self, build: Build) -> bool:
        """Return whether a TensorRT of this profile uses a build.

        Raises:
            BundleError: If the build's versions are damaged.
        """
        below = None if build.max_version is None else _version(build.max_version)
        fits = below is None or self.oldest < below
        return fits and _version(build.min_version) <= self.newest


def _version(text: str) -> Version:
    parts = text.split(".")
    if len(parts) < 2 or not all(part.isdecimal() for part in parts):
        message = f"{text!r} is not a version of TensorRT; export the bundle again"
        raise BundleError(message)
    return int(parts[0]), int(parts[1])


_NANO = "Jetson Nano of 2019 (sm_53, 4 GB), JetPack 4.6.1 to 4.6.6"
_TENSORRT_10 = "any TensorRT 10; JetPack 7 has 10.13 to 10.16"
_TENSORRT_11 = "any TensorRT 11, which is always strongly typed"

PROFILES = {
    profile.name: profile
    for profile in (
        # name, title, oldest, newest, opsets, newest format version
        Profile(
            "jetson-nano",
            _NANO,
            (8, 2),
            (8, 2),
            (7, 13),
            8,
            old_onnxruntime=True,
            int8=False,
            many_nodes=2000,
        ),
        Profile("jetpack-5", "Orin and Xavier, JetPack 5.1", (8, 5), (8, 5), (7, 17), 8),
        Profile("jetpack-6", "Orin, JetPack 6.1 and 6.2", (10, 3), (10, 3), (9, 20), 10),
        Profile("tensorrt-10", _TENSORRT_10, (10, 0), (10, 16), (9, 20), 10),
        Profile("tensorrt-11", _TENSORRT_11, (11, 0), (11, 4), (9, 24), 12),
    )
}
"""Every profile by its name."""


def get_profile(name: str) -> Profile:
    """Return a profile.

    Raises:
        InputError: If the name is unknown.
    """
    if name not in PROFILES:
        raise InputError(unknown("profile", name, PROFILES))
    return PROFILES[name]
