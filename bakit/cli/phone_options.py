"""The options of ``bakit bench`` for a phone, and what is printed while one is waited for."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bakit.cli.paths import all_bundles
from bakit.cli.tables import safe
from bakit.errors import InputError, MissingBackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bakit.bench.phone.listener import PageAddress, PhoneOptions
    from bakit.bench.phone.run import PhoneResult
    from bakit.bench.report.document import Report


def phone_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options for a phone; they come as one argument, ``phone``."""
    # The last one is the first of the help.
    for option in (
        click.option("--port", type=click.IntRange(0, 65535), help="Port; else any free one."),
        click.option("--bind", metavar="ADDRESS", help="Listen here, 0.0.0.0 for the network."),
        click.option("--adb", is_flag=True, help="Reach an Android phone through adb and USB."),
        click.option(
            "--provider",
            type=click.Choice(["wasm", "webgpu", "webnn"]),
            help="What runs the models in the browser; else wasm.",
        ),
        click.option(
            "--phone",
            is_flag=True,
            help="Measure on a phone, in its browser: serves a page. Drift is on phantoms, "
            "unless --data sends it other images.",
        ),
    ):
        command = option(command)
    return command


def check_phone_options(
    given: dict[str, Any], threads: tuple[int, ...] | None, batch: int, goal: object
) -> dict[str, Any] | None:
    """Return the options for a phone that were given; None if no phone was asked for.

    Args:
        given: The options of ``phone_options``.
        threads: Numbers of threads.
        batch: Images in a query.
        goal: Whether the goal is to be checked.

    Raises:
        InputError: If some do not go together.
    """
    asked = {name: value for name, value in given.items() if value not in {None, False}}
    if not asked.pop("phone", False):
        if asked:
            message = f"--{next(iter(asked))} is of use with --phone only"
            raise InputError(message)
        return None
    for option, given_too in (
        ("several numbers for --threads", len(threads or ()) > 1),
        ("--batch", batch != 1),
        ("--goal", goal),
    ):
        if given_too:
            message = f"--phone takes no {option}: a page has one number of threads, one image "
            message += "at a time, and a goal is judged on radiographs, by this machine"
            raise InputError(message)
    return asked


def bench_phone(
    bundles: Sequence[Path],
    asked: dict[str, Any],
    **how: Any,  # noqa: ANN401  # run_phone's
) -> PhoneResult:
    """Print the page's address, wait for the phone and show how far it is, all on stderr.

    Args:
        bundles: Bundles; those in the default folder that a browser can run where there are none.
        asked: What ``check_phone_options`` returned.
        how: Arguments of ``run_phone``.
    """
    from bakit.bench.phone.listener import PhoneOptions
    from bakit.bench.phone.run import run_phone

    options = PhoneOptions(**asked)
    show = _address_printer(options)
    chosen = bundles or _runnable()
    with _stages(show) as (on_address, on_stage):
        return run_phone(chosen, options=options, on_address=on_address, on_stage=on_stage, **how)


def print_failures(result: PhoneResult) -> int:
    """Print what is wrong on stderr; return the exit status."""
    for failure in result.failures:
        click.echo(f"bakit: {safe(failure)}", err=True)
    return 1 if result.failures else 0


def phone_notes(report: Report) -> list[str]:
    """Say how a phone measured; nothing where no phone did."""
    phone, notes = report.phone, []
    if phone is None:
        return []
    if phone.runs_per_sample > 1:
        notes.append(f"coarse clock: a time is the mean of up to {phone.runs_per_sample} runs")
    if phone.golden_max_difference_months:
        worst = max(phone.golden_max_difference_months.values())
        notes.append(f"golden ages: at most {worst:.4f} months from the bundles' own")
    return [*notes, f"images cropped, and the reference run, on: {report.host.cpu}"]


def _runnable() -> list[Path]:
    from bakit.bench.phone.run import TARGET
    from bakit.bundle import Bundle

    found = [path for path in all_bundles() if Bundle.read(path).manifest.target == TARGET]
    if not found:
        message = f"no bundle that a browser runs; write one with: bakit export --target {TARGET}"
        raise InputError(message)
    return found


def _address_printer(options: PhoneOptions) -> Callable[[PageAddress], None]:
    """Return what prints the address, as a QR code too where another device can open it.

    Raises:
        MissingBackendError: If the library that draws the code is needed and not installed.
    """
    from bakit.bench.phone.address import is_loopback, network_address

    if is_loopback(options.bind):

        def nearby(page: PageAddress) -> None:
            _echo_address(page)
            if options.adb:
                return
            own = network_address()
            click.echo(
                "only this machine can open it: for a phone in the same network give --bind "
                f"{own or 'and the address of this machine'}; for one on a USB cable give --adb",
                err=True,
            )

        return nearby
    try:
        import segno
    except ModuleNotFoundError as error:
        need = "a QR code for a phone"
        raise MissingBackendError(need, "phone") from error

    def with_code(page: PageAddress) -> None:
        segno.make(page.url, micro=False).terminal(sys.stderr, compact=True)
        _echo_address(page)

    return with_code


def _echo_address(page: PageAddress) -> None:
    click.echo(f"open on the phone: {page.url}", err=True)
    if page.fingerprint is not None:
        click.echo(
            "the browser will warn, since the certificate is this run's own; its SHA-256 is\n"
            f"{page.fingerprint}",
            err=True,
        )


@contextmanager
def _stages(
    show: Callable[[PageAddress], None],
) -> Iterator[tuple[Callable[[PageAddress], None], Callable[[str, float], None]]]:
    """Give what prints the address, and what shows how far each stage is.

    A log gets one line a stage.
    """
    if not sys.stderr.isatty():
        seen: set[str] = set()

        def line(stage: str, share: float) -> None:
            del share
            if stage not in seen:
                seen.add(stage)
                click.echo(f"{stage} ...", err=True)

        yield show, line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

    # The phone measures: redrawing here disturbs nothing.
    bars = Progress(
        TextColumn("{task.description:9}"),
        BarColumn(),
        TaskProgressColumn(),
        console=Console(stderr=True),
    )
    tasks: dict[str, TaskID] = {}

    def advance(stage: str, share: float) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=1.0)
        bars.update(tasks[stage], completed=share)

    def between(page: PageAddress) -> None:
        bars.stop()  # a live display would mangle the code
        show(page)
        bars.start()

    with bars:
        yield between, advance
