"""``bakit doctor``."""

from __future__ import annotations

import click


@click.command("doctor")
def command() -> None:
    """Show what is installed and what each target still needs.

    \b
    Example:
      bakit doctor
    """
    import importlib
    import platform

    from bakit import __version__
    from bakit.bench.phone.web import find_runtime
    from bakit.errors import MissingBackendError
    from bakit.model.checkpoint import SHIPPED
    from bakit.targets import find_targets

    click.echo(f"bakit {__version__}, Python {platform.python_version()}, {platform.platform()}")
    click.echo(
        f"shipped checkpoint: {SHIPPED if SHIPPED.is_file() else 'missing; reinstall bakit'}"
    )
    found, failed = find_targets()
    for target in found.values():
        for what, load in (("run", target.load_backend), ("export", target.load_exporter)):
            try:
                load()
                state = "ready"
            except MissingBackendError as missing:
                state = str(missing)
            click.echo(f"{target.name}, {what}: {state}")
    try:
        importlib.import_module("bakit.bench.phone.certificate")
        state = f"ready, onnxruntime-web in {find_runtime()}"
    except MissingBackendError as missing:
        state = str(missing)
    click.echo(f"bench --phone: {state}")
    for name, error in failed.items():
        click.echo(f"plug-in {name!r} failed to load: {error}")
