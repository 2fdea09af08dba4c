"""What a graph may be made of, by where it is to run: data, and nothing but data.

Sources: the operator tables and change logs of onnx-tensorrt 8.4, 8.5, 10.6 and 10.15, the headers
and release notes of TensorRT, and what ONNX Runtime 1.10 refused when it was run. ``docs/check.md``
says which fact comes from where.
"""

from __future__ import annotations

from typing import NamedTuple

from bakit.errors import InputError

Version = tuple[int, int]
"""Major and minor version of TensorRT."""


class Profile(NamedTuple):
    """What a graph is judged against.

    Attributes:
        name: What the command line calls it.
        title: What it stands for.
        oldest: The TensorRT that a graph must pass.
        newest: The last one that the profile stands for.
        opsets: Lowest and highest version of the default operator set that it is made for.
        max_ir: Newest format version that its parser, or ONNX Runtime beside it, was built with.
        old_onnxruntime: Whether ONNX Runtime 1.10 stands beside TensorRT and has to read the file
            too: it refuses newer format versions and unknown operator sets, used or not.
        int8: Whether the hardware computes in INT8.
        many_nodes: Nodes from which building is in doubt for want of memory; None for no limit.
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
        """Its versions of TensorRT, in words."""
        first, last = (".".join(map(str, version)) for version in (self.oldest, self.newest))
        return first if first == last else f"{first} to {last}"


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "jetson-nano",
            "Jetson Nano of 2019 (sm_53, 4 GB), JetPack 4.6.1 to 4.6.6",
            oldest=(8, 2),
            newest=(8, 2),
            opsets=(7, 13),
            max_ir=8,
            old_onnxruntime=True,
            int8=False,
            many_nodes=2000,
        ),
        Profile(
            "jetpack-5",
            "Orin and Xavier, JetPack 5.1",
            oldest=(8, 5),
            newest=(8, 5),
            opsets=(7, 17),
            max_ir=8,
        ),
        Profile(
            "jetpack-6",
            "Orin, JetPack 6.1 and 6.2",
            oldest=(10, 3),
            newest=(10, 3),
            opsets=(9, 20),
            max_ir=10,
        ),
        Profile(
            "tensorrt-10",
            "any TensorRT 10; JetPack 7 has 10.13 to 10.16",
            oldest=(10, 0),
            newest=(10, 16),
            opsets=(9, 20),
            max_ir=10,
        ),
        Profile(
            "tensorrt-11",
            "any TensorRT 11, which takes types as they are written",
            oldest=(11, 0),
            newest=(11, 4),
            opsets=(9, 24),
            max_ir=12,
        ),
    )
}
"""Every profile by its name."""


def get_profile(name: str) -> Profile:
    """Return a profile.

    Raises:
        InputError: If there is none of this name.
    """
    if name not in PROFILES:
        message = f"no profile {name!r}; there are {', '.join(PROFILES)}"
        raise InputError(message)
    return PROFILES[name]
