"""``bakit doctor``."""

from __future__ import annotations

import click

from bakit.cli.tables import echo


@click.command("doctor")
def command() -> None:
    """List what is installed and what each target still needs.

    \b
    Example:
      bakit doctor
    """
    import importlib
    import platform

    from bakit import __version__
    from bakit.bench.phone.web import find_runtime
    from bakit.errors import MissingBackendError, install_command
    from bakit.model.checkpoint import SHIPPED
    from bakit.targets import find_targets

    echo(f"bakit {__version__}, Python {platform.python_version()}, {platform.platform()}")
    missing = f"missing; {install_command()}"
    echo(f"shipped checkpoint: {SHIPPED if SHIPPED.is_file() else missing}")
    found, failed = find_targets()
    for target in found.values():
        for what, load in (("run", target.load_backend), ("export", target.load_exporter)):
            try:
                load()
                state = "ready"
            except MissingBackendError as error:
                state = str(error)
            echo(f"{target.name}, {what}: {state}")
    try:
        importlib.import_module("bakit.bench.phone.certificate")
        state = f"ready, onnxruntime-web in {find_runtime()}"
    except MissingBackendError as error:
        state = str(error)
    echo(f"bench --phone: {state}")
    for name, reason in failed.items():
        echo(f"plug-in {name!r} failed to load: {reason}")
