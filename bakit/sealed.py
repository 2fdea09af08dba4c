"""Sealed files: names that stay inside a bundle, and bytes with the digest of its manifest."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bakit.errors import BundleError
from bakit.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_FILE_BYTES = 2**30
MAX_TOTAL_BYTES = 2**31
MAX_NAME = 240
"""Longest path inside a bundle, in characters."""

MAX_UNSEALED = 20
"""Most files that ``unsealed`` names."""

_PART = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_DEVICE = re.compile(r"(?i)(?:^|/)(?:aux|con|nul|prn|com\d|lpt\d)(?:[./]|$)")  # Windows' own names

# The key of ONNX's external data, a protobuf string: its length, 8, comes before it, as one byte or
# as a longer number that ends with 0. Protobuf stores strings in one piece, so none is missed.
_EXTERNAL = re.compile(rb"[\x08\x00]location")


@dataclass(frozen=True)
class SealedFiles:
    """Files of a bundle; a backend opens no others.

    Attributes:
        root: The bundle's folder.
        digests: SHA-256 of each file, by its path inside the folder.
        checked: Size in bytes of each file whose digest was checked, by its path.
    """

    root: Path
    digests: Mapping[str, str]
    checked: dict[str, int] = field(default_factory=dict, compare=False)

    def path(self, name: str) -> Path:
        """Return the place of a sealed file, for a library that opens files itself.

        Raises:
            BundleError: As ``read``.
        """
        path = self._place(name)
        if name not in self.checked:
            for _ in self._blocks(name):
                pass
        return path

    def read(self, name: str) -> bytes:
        """Return a file's bytes; they have the digest in the manifest.

        Raises:
            BundleError: If the file is not sealed, a link, missing or changed, or if it or all
                files together are too large.
        """
        return b"".join(self._blocks(name, MAX_FILE_BYTES))  # of one block: no copy

    def check(self) -> None:
        """Check the digest of each file that was not checked yet.

        Raises:
            BundleError: As ``read``.
        """
        for name in self.digests:
            self.path(name)

    def unsealed(self, ignored: Iterable[str] = (), folder: str = "") -> list[str]:
        """Return up to ``MAX_UNSEALED`` files that are neither sealed nor ignored.

        ``ignored`` are further paths that belong to the bundle.
        """
        known = {*self.digests, *ignored}
        found = []
        for place, folders, files in os.walk(self.root / folder):
            folders.sort()
            links = [name for name in folders if (Path(place) / name).is_symlink()]
            for name in sorted([*files, *links]):
                path = (Path(place) / name).relative_to(self.root).as_posix()
                if path not in known:
                    found.append(path)
                if len(found) == MAX_UNSEALED:
                    return found
        return found

    def _place(self, name: str) -> Path:
        if name not in self.digests:
            message = f"{self.root}: {name!r} is not sealed; export the bundle again"
            raise BundleError(message)
        return self.root / name

    def _blocks(self, name: str, block_bytes: int = 1 << 20) -> Iterator[bytes]:
        """Yield a file's bytes; raise at its end if it was changed."""
        path = self._place(name)
        others = sum(size for other, size in self.checked.items() if other != name)
        most = min(MAX_FILE_BYTES, MAX_TOTAL_BYTES - others)
        state = hashlib.sha256()
        try:
            _refuse_links(self.root, name)
            with open_regular(path) as file:
                size = left = os.fstat(file.fileno()).st_size  # before a sparse file is read
                if size > most:
                    message = f"{path}: more than {most >> 20} MiB; not a file of a bundle"
                    raise BundleError(message)
                while block := file.read(min(left, block_bytes)):
                    left -= len(block)
                    state.update(block)
                    yield block
        except OSError as error:
            reason = error.strerror or error
            message = f"{path}: named in the manifest but cannot be read ({reason})"
            raise BundleError(message) from error
        if state.hexdigest() != self.digests[name]:
            message = f"{path}: changed since it was exported (SHA-256 differs); export it again"
            raise BundleError(message)
        self.checked[name] = size


def seal_files(root: Path, listed: Iterable[tuple[str, str]]) -> SealedFiles:
    """Return the files that a manifest lists, each once; nothing is read.

    Raises:
        BundleError: If a path is not in canonical form, or two entries contradict each other.
    """
    digests: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for name, digest in listed:
        if len(name) > MAX_NAME or not _NAME.fullmatch(name) or _DEVICE.search(name):
            message = (
                f"{root}: the manifest names {name[:MAX_NAME]!r}; paths in a bundle are relative, "
                "with the characters A-Z a-z 0-9 _ - and single dots and slashes between them"
            )
            raise BundleError(message)
        same = spelled.setdefault(name.lower(), name)
        if same != name or digests.setdefault(name, digest) != digest:
            message = f"{root}: the manifest lists {name!r} twice, and the entries differ"
            raise BundleError(message)
    return SealedFiles(root, digests)


def refuse_external_data(model: bytes, name: str) -> None:
    """Refuse an ONNX model whose weights are in another file.

    Raises:
        BundleError: If it refers to external data.
    """
    # The search for a fixed string is 20 times as fast: 10 ms for 30 MB.
    if b"location" in model and _EXTERNAL.search(model):
        message = f"{name}: refers to external data, which is not sealed; export it as one file"
        raise BundleError(message)


def _refuse_links(root: Path, name: str) -> None:
    """Refuse links on the way to a file."""
    path = root
    for part in name.split("/"):
        path /= part
        if path.is_symlink():
            message = f"{root}: the manifest names {name!r}, which is a link; copy the file itself"
            raise BundleError(message)
