"""``bakit targets``."""

from __future__ import annotations

import json

import click

from bakit.cli.options import json_option
from bakit.cli.tables import echo, next_step
from bakit.targets import find_targets


@click.command("targets")
@json_option("Print one JSON object per target.")
def command(*, as_json: bool) -> None:
    """List the deployment targets, including those of installed plug-ins.

    \b
    Example:
      bakit targets
    """
    found, failed = find_targets()
    for target in found.values():
        precisions = sorted(precision.value for precision in target.precisions)
        if as_json:
            fields = ("name", "title", "suffix", "extra", "portable", "verified", "note")
            row = {name: getattr(target, name) for name in fields}
            echo(json.dumps(row | {"precisions": precisions}))
        else:
            echo(f"{target.name}: {target.title}; {', '.join(precisions)}")
            if target.note:
                echo(f"  {target.note}")
    for name, error in failed.items():
        echo(f"plug-in {name!r} failed to load: {error}", err=True)
    next_step("bakit doctor   (what this machine can run and export)")
