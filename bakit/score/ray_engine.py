"""Read films on a Ray cluster, in an actor on each CPU."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import ray
from ray.exceptions import RayError

from bakit.bundle import MANIFEST, SEAL, Bundle
from bakit.data.parallel import check_count
from bakit.errors import BakitError, BundleError, InputError, MissingBackendError, first_line
from bakit.runtime import Runtime
from bakit.score.row import Scored, score_film
from bakit.session import Closing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from bakit.score.journal import Journal
    from bakit.score.row import Options
    from bakit.score.sources import Film

CONNECT_S = 10.0
WAIT_S = 600.0
"""Longest time without a result or a new actor."""


class RayReaders(Closing):
    """Actors on a running cluster, whose nodes find the films under the same paths.

    The bundle travels once to each node, and is verified there. The journal is not used: the same
    pixels are read again, with the same row. ``workers`` are actors, one per CPU of the cluster
    when None; ``address`` is such as ``10.0.0.1:6379``, the cluster of this machine when None.

    Raises:
        InputError: If ``workers`` is below 1, or the cluster cannot be reached.
    """

    chunk = 16

    def __init__(
        self,
        bundle: Bundle,
        options: Options,
        journal: Journal,
        workers: int | None = None,
        address: str | None = None,
    ) -> None:
        del journal
        check_count("workers", workers)
        try:
            if address is not None:  # Ray tries for many minutes
                host, _, port = address.rpartition("://")[2].rpartition(":")
                socket.create_connection((host, int(port)), CONNECT_S).close()
            with _in_an_empty_folder():
                ray.init(address or "auto", log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # of many kinds
            message = f"no Ray cluster at {address or 'this machine'} ({first_line(error)}); "
            message += "start one with: ray start --head"
            raise InputError(message) from error
        names = (MANIFEST, SEAL, *bundle.files.digests)
        files = ray.put({name: (bundle.root / name).read_bytes() for name in names})
        self._arguments = files, bundle.sha256, options
        self.number = workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)

    def start(self) -> _Reader:
        """Start an actor; it waits until a CPU is free."""
        actor = ray.remote(num_cpus=1)(_Actor).remote()
        return _Reader(actor, actor.open.remote(*self._arguments))

    def send(self, reader: Any, films: list[Film]) -> None:  # noqa: ANN401  # of ``start``
        """Send films."""
        reader.result = reader.actor.score.remote(films)

    def wait(self, busy: Collection[Any]) -> tuple[object, list[Scored] | Exception]:
        """Return an actor that is done.

        Raises:
            InputError: If none is.
            BundleError: If a node cannot run the bundle.
            MissingBackendError: If bakit is not installed on a node.
        """
        readers = {reader.result: reader for reader in busy}
        ready, _ = ray.wait(list(readers), timeout=WAIT_S)
        if not ready:
            message = f"the cluster gave no result for {WAIT_S:g} s; see ray status"
            raise InputError(message)
        try:
            found = ray.get(ready[0])
        except RayError as error:
            last = str(error).strip().splitlines()[-1]  # of the node's traceback
            if "ModuleNotFoundError" in last:
                need = f"a node of the cluster ({last})"
                raise MissingBackendError(need, "ray") from error
            found = InputError(f"its actor ended ({last})")
        if isinstance(found, str):
            raise BundleError(found)
        return readers[ready[0]], found

    def close(self) -> None:
        """End the actors."""
        ray.shutdown()


@contextmanager
def _in_an_empty_folder() -> Iterator[None]:
    """Change the working folder: Ray puts it first on the import path of every node's processes."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="bakit-") as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


class _Reader:
    def __init__(self, actor: Any, result: Any) -> None:  # noqa: ANN401  # of Ray
        self.actor, self.result = actor, result


class _Actor:
    def open(self, files: dict[str, bytes], sha256: str, options: Options) -> list[Scored] | str:
        """Open the bundle; return what is wrong with it."""
        cv2.setNumThreads(1)
        try:
            with tempfile.TemporaryDirectory(prefix="bakit-") as folder:
                for name, data in files.items():
                    path = Path(folder, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
                bundle = Bundle.read(Path(folder))  # checks every digest
                if bundle.sha256 != sha256:
                    return "the bundle was changed on its way to a node; start again"
                self._runtime, self._options = Runtime(bundle, 1), options
        except BakitError as error:
            return f"on a node of the cluster: {error}"
        return []

    def score(self, films: list[Film]) -> list[Scored]:
        """Return the row of each film."""
        return [score_film(self._runtime, film, self._options, lambda _: None) for film in films]
