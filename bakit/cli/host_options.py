"""The options of ``bakit bench`` for a device that is reached over ssh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakit.cli.paths import all_bundles
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bakit.bench.report.document import Report


def host_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options for a device; each name begins with ``host``."""
    # The last one is the first of the help.
    for option in (
        click.option("--keep", "host_keep", is_flag=True, help="Leave the work folder there."),
        click.option(
            "--workspace-mb",
            "host_workspace_mb",
            type=click.IntRange(min=16),
            help="Memory for TensorRT's builder; else 256.",
        ),
        click.option(
            "--allow-downgrade",
            "host_allow_downgrade",
            is_flag=True,
            help="Build INT8 bundles as FP16 where the GPU has no INT8 unit.",
        ),
        click.option(
            "--engine",
            "host_engine",
            type=click.Choice(["tensorrt", "trtexec", "onnxruntime"]),
            help="What runs the bundles there; else what is there.",
        ),
        click.option(
            "--python",
            "host_python",
            metavar="PATH",
            help="Its Python, 3.6 or newer; else python3.",
        ),
        click.option(
            "--identity", "host_identity", type=click.Path(path_type=Path), help="Private key."
        ),
        click.option(
            "--ssh-option",
            "host_option",
            multiple=True,
            metavar="NAME=VALUE",
            help="As after ssh's -o; may be given again.",
        ),
        click.option("--ssh-port", "host_port", type=click.IntRange(1, 65535), help="Port of ssh."),
        click.option(
            "--host",
            "host",
            metavar="USER@DEVICE",
            help="Measure on this device over ssh, with an agent that needs no bakit there.",
        ),
    ):
        command = option(command)
    return command


def take_host_options(options: dict[str, Any]) -> dict[str, Any] | None:
    """Take the options of ``host_options`` out of all; None if no device was asked for.

    Raises:
        InputError: If some were given without a device.
    """
    names = [name for name in options if name == "host" or name.startswith("host_")]
    given = {name: options.pop(name) for name in names}
    asked = {name: value for name, value in given.items() if value not in (None, False, ())}
    if "host" in asked or not asked:
        return asked or None
    message = f"--{next(iter(asked)).removeprefix('host_').replace('_', '-')} is for --host only"
    raise InputError(message)


def bench_on_host(
    bundles: Sequence[Path],
    asked: dict[str, Any],
    *,
    data: Path | None,
    reference: Path | None,
    limit: int | None,
    threads: int | None,
    queries: int,
    seconds: float,
    on_stage: Callable[[str, float], None],
) -> Report:
    """Measure on the device that was asked for."""
    from bakit.bench.device.pack import AgentSettings
    from bakit.bench.device.run import bench_host
    from bakit.bench.device.ssh import Remote

    settings = AgentSettings(
        min_queries=queries,
        min_duration_s=seconds,
        threads=threads,
        engine=asked.get("host_engine", "auto"),
        allow_downgrade=asked.get("host_allow_downgrade", False),
        workspace_mb=asked.get("host_workspace_mb", 256),
    )
    return bench_host(
        Remote(
            asked["host"],
            asked.get("host_port"),
            asked.get("host_identity"),
            asked.get("host_option", ()),
        ),
        bundles or all_bundles(),
        settings,
        data,
        reference,
        limit,
        python=asked.get("host_python", "python3"),
        keep=asked.get("host_keep", False),
        on_stage=on_stage,
    )
