"""``bakit doctor`` and ``bakit targets``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bakit.cli.options import Names, json_option
from bakit.cli.tables import echo, echo_json, next_step, print_table
from bakit.targets import find_targets, get_target, targets

if TYPE_CHECKING:
    from collections.abc import Callable


@click.command("doctor")
@click.argument("names", metavar="[TARGET]...", nargs=-1, type=Names("target", targets))
@json_option()
@click.pass_context
def command(ctx: click.Context, names: tuple[str, ...], *, as_json: bool) -> None:
    """List what each target can do on this machine, and the command that mends each gap.

    run: predict and bench here. export: write its bundles here. Every cell is the result of a
    probe: its libraries are imported and its device is asked for.

    Exit status: 0 ready; 3 a TARGET has a gap, or without TARGET, no target can be exported or run.

    \b
    Example:
      bakit doctor
      bakit doctor onnx openvino
    """
    from bakit import __version__
    from bakit.agent import AgentError
    from bakit.bench.host import read_host
    from bakit.errors import BakitError, install_command
    from bakit.model.checkpoint import SHIPPED

    gaps: dict[str, str] = {}

    def state(what: str, probe: Callable[[], str | None]) -> str:
        try:
            found = probe()
        except (AgentError, BakitError) as error:
            gaps[what] = str(error)
            return "missing"
        return f"ready: {found}" if found else "ready"

    found, failed = find_targets()
    rows = {
        name: {
            "run": state(f"{name}, run", get_target(name).check_runs),
            "export": state(f"{name}, export", get_target(name).check_exports),
        }
        for name in names or found
    }
    phone = "not asked for" if names else state("bench --phone", _probe_phone)
    if not SHIPPED.is_file():
        gaps["shipped checkpoint"] = f"{SHIPPED} is missing; {install_command()}"
    host = read_host()
    can = [any(row[what] != "missing" for row in rows.values()) for what in ("run", "export")]
    ready = not gaps if names else all(can)
    if as_json:
        machine = {name: getattr(host, name) for name in ("system", "cpu", "isa", "memory_mb")}
        document: dict[str, object] = {"bakit": __version__, "python": host.python}
        document |= {"machine": machine, "targets": rows, "phone": phone}
        echo_json(document | {"gaps": gaps | failed, "ready": ready})
        ctx.exit(0 if ready else 3)
    memory = "" if host.memory_mb is None else f", {host.memory_mb / 1000:.1f} GB memory"
    echo(f"bakit {__version__}, Python {host.python}, {host.system}")
    echo(f"{host.cpu_text}{memory}; INT8 units: {', '.join(host.isa) or 'none known'}")
    cells = ((name, *row.values()) for name, row in rows.items())
    print_table("", ("target", "run", "export"), cells, left=range(3), wrap=True)
    if not names:
        echo(f"bench --phone: {phone}")
    for what, text in gaps.items():
        echo(f"{what}: {text}")
    for name, reason in failed.items():
        echo(f"plug-in {name!r} failed to load: {reason}")
    next_step("bakit export --target onnx --precision fp32,int8" if ready else "the commands above")
    ctx.exit(0 if ready else 3)


def _probe_phone() -> str:
    import importlib

    from bakit.bench.phone.web import find_runtime

    importlib.import_module("bakit.bench.phone.certificate")
    return f"onnxruntime-web in {find_runtime()}"


@click.command("targets")
@json_option("Print one JSON object per target.")
def targets_command(*, as_json: bool) -> None:
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
            echo_json(row | {"precisions": precisions})
        else:
            echo(f"{target.name}: {target.title}; {', '.join(precisions)}")
            if target.note:
                echo(f"  {target.note}")
    for name, error in failed.items():
        echo(f"plug-in {name!r} failed to load: {error}", err=True)
    next_step("bakit doctor   (what this machine can run and export)")
