"""``bakit bench --fleet``, and tables of its report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakit.cli.bench_tables import WIDTH
from bakit.cli.progress import step_lines
from bakit.cli.tables import echo, new_console, new_table, safe
from bakit.errors import InputError

if TYPE_CHECKING:
    from bakit.bench.report.fleet import Fleet


def bench_on_fleet(
    asked: dict[str, Any],
    how: dict[str, Any],
    public_key: Path | None,
    files: tuple[str | None, Path | None, Path | None],
    others: dict[str, object],
) -> int:
    """Measure the devices of a file, print and write the report; return the exit status.

    Args:
        asked: The options for a fleet.
        how: The options common to all devices, named as in ``run_bench``.
        public_key: Key of the bundles' owner.
        files: For JSON, HTML and Markdown.
        others: Options that a fleet does not support, by their names.
    """
    from bakit.bench.fleet import bench_fleet, read_targets
    from bakit.bench.report.fleet import INTERRUPTED, read_fleet

    json_file, html_file, md_file = files
    others |= {"--html": html_file, "--reference": how.pop("reference")}
    for option in (name for name, value in others.items() if value):
        message = f"--fleet does not support {option}: bundles and connections are in the device "
        message += "file, and tables are printed or written with --md"
        raise InputError(message)
    if json_file in {None, "-"}:
        message = "--fleet needs --json FILE, for --retry-failed and bakit gate"
        raise InputError(message)
    path, device_file = Path(str(json_file)), Path(asked["fleet"])
    targets = read_targets(device_file, public_key)
    earlier = read_fleet(path) if asked.get("retry_failed") else None
    fleet = bench_fleet(targets, earlier, lambda name: step_lines(f"{safe(name)}: "), **how)
    fleet.write(path)
    show_fleet(fleet, md_file)
    echo(f"report: {path}")
    again = f"bakit bench --fleet {shlex.quote(str(device_file))} --retry-failed --json "
    follow = again if fleet.failures else "bakit gate "
    echo(f"next: {follow}{shlex.quote(str(path))}")
    if any(INTERRUPTED in failure for failure in fleet.failures):
        return 130
    return 1 if fleet.failures else 0


def show_fleet(fleet: Fleet, md_file: Path | None) -> None:
    """Print the table of a fleet and what failed; optionally write it as Markdown."""
    from rich.text import Text

    from bakit.bench.render.markdown import FLEET_COLUMNS, fleet_rows, render_fleet
    from bakit.files import write_file

    table = new_table("Devices and bundles", FLEET_COLUMNS, left=(0, 1))
    for row in fleet_rows(fleet):
        table.add_row(*(Text(safe(cell)) for cell in row))
    new_console(WIDTH).print(table)
    for failure in fleet.failures:
        echo(f"failed: {safe(failure)}")
    if md_file is not None:
        write_file(md_file, render_fleet(fleet).encode())
        echo(f"report: {md_file}")
