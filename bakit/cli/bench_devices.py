"""Options of ``bakit bench`` for devices over ssh and for phones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakit.cli.options import OUT_FILE, PATH, Names, several
from bakit.cli.progress import progress, step_lines
from bakit.cli.tables import echo, next_step, safe
from bakit.errors import InputError, MissingBackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bakit.bench.phone.listener import PageAddress, PhoneOptions
    from bakit.bench.phone.run import PhoneResult
    from bakit.bench.report.document import Report
    from bakit.bundle import Bundle


def _option(switch: str, flag: str, text: str, **how: Any) -> Callable[..., Any]:  # noqa: ANN401
    """Return an option whose parameter name starts with ``switch``."""
    name = f"{switch}_{flag.removeprefix('--').replace('-', '_')}"
    return click.option(flag, name, help=text, **how)


BROWSER_PROVIDERS = Names("provider of a browser", lambda: ("wasm", "webgpu", "webnn"))
_ENGINES = click.Choice(["tensorrt", "trtexec", "onnxruntime"])
device_options = several(
    click.option(
        "--phone",
        is_flag=True,
        help="Measure in a phone's browser: serve a page for it. Drift is measured on phantoms, or "
        "on the images of --data.",
    ),
    _option("phone", "--adb", "Connect to an Android phone through adb and USB.", is_flag=True),
    _option(
        "phone",
        "--benchmark-binary",
        "With --adb: take the times with LiteRT's benchmark_model or ONNX Runtime's "
        "onnxruntime_perf_test for Android; repeatable. See docs/phone.md.",
        multiple=True,
        metavar="FILE",
        type=PATH,
    ),
    _option("phone", "--bind", "Address to listen on; 0.0.0.0 for all.", metavar="ADDRESS"),
    _option("phone", "--port", "Port. Default: a free port.", type=click.IntRange(0, 65535)),
    click.option(
        "--host",
        metavar="USER@DEVICE",
        help="Measure on this device over ssh; bakit need not be installed there.",
    ),
    _option("host", "--ssh-port", "SSH port.", type=click.IntRange(1, 65535)),
    _option(
        "host",
        "--ssh-option",
        "Option for ssh -o; repeatable.",
        multiple=True,
        metavar="NAME=VALUE",
    ),
    _option("host", "--identity", "SSH private key.", type=PATH),
    _option(
        "host", "--python", "Python of the device, 3.6 or newer. Default: python3.", metavar="PATH"
    ),
    _option("host", "--engine", "Backend on the device. Default: detected.", type=_ENGINES),
    _option(
        "host",
        "--allow-downgrade",
        "Build INT8 bundles as FP16 if the GPU has no INT8 unit.",
        is_flag=True,
    ),
    _option(
        "host",
        "--workspace-mb",
        "Memory for TensorRT's builder. Default: 256.",
        type=click.IntRange(min=16),
    ),
    _option("host", "--keep", "Keep the work folder on the device.", is_flag=True),
    click.option(
        "--fleet",
        metavar="FILE",
        type=PATH,
        help="Measure on all devices of this TOML file at once (docs/report.md).",
    ),
    _option(
        "fleet",
        "--retry-failed",
        "Keep what the file of --json has measured; measure the failed devices again.",
        is_flag=True,
    ),
    click.option(
        "--kit",
        metavar="FILE",
        type=OUT_FILE,
        help="Measure nothing; write a .tar.gz for a board without bakit or network. Unpack it "
        "there and run: python3 bakit-kit/agent.py evidence",
    ),
)
"""Options for a phone, for devices over ssh and for a kit (``take_options``)."""


def take_options(given: dict[str, Any], switch: str) -> dict[str, Any] | None:
    """Return the options that belong to one switch, without their prefix.

    Returns:
        None if the switch was not given.

    Raises:
        InputError: If options of the switch were given without it.
    """
    named = {name: value for name, value in given.items() if name.startswith(switch)}
    asked = {name: value for name, value in named.items() if value not in (None, False, ())}
    if asked and switch not in asked:
        option = next(iter(asked)).removeprefix(f"{switch}_").replace("_", "-")
        message = f"--{option} needs --{switch}"
        raise InputError(message)
    return {name.removeprefix(f"{switch}_"): value for name, value in asked.items()} or None


_UNSUPPORTED = {
    "--fleet": "BUNDLE --reference --provider --phone --host --kit --goal",
    "--phone": "--host --kit --goal",
    "--kit": "--data --reference --limit --provider --json --html --md --host --goal",
    "--host": "",
}
"""By the place of a measurement: what it does not support, besides _LOCAL."""
_LOCAL = ("--whole", "a thread sweep")
_REASONS = {
    "--fleet": "bundles and connections are in its file",
    "--phone": "a page runs one image at a time, and the goal is checked only on this machine",
    "--kit": "--kit holds no radiographs or provider, and its results are written on the board",
    "--host": "a device runs one image at a time with one number of threads",
}


def check_place(given: Mapping[str, object]) -> None:
    """Raise ``InputError`` for an option that the place of the measurement does not support.

    ``given`` has each option's value by its name, false if it was not given.
    """
    for place, options in _UNSUPPORTED.items():
        for option in (*options.split(), *_LOCAL) if given[place] else ():
            if given[option]:
                message = f"{place} does not support {option}: {_REASONS[place]}"
                raise InputError(message)


def bench_on_host(
    bundles: Sequence[Path | Bundle],
    asked: dict[str, Any],
    log_file: Path | None,
    **how: Any,  # noqa: ANN401
) -> Report:
    """Measure on a device over ssh and show progress.

    ``how`` are the options common to all devices, named as in ``run_bench``.
    """
    from bakit.bench.device.pack import AgentOptions
    from bakit.bench.device.run import bench_host
    from bakit.bench.device.ssh import Remote

    names = ("engine", "allow_downgrade", "workspace_mb", "provider")
    how["options"] = AgentOptions(**{name: asked[name] for name in names if name in asked})
    how |= {name: asked[name] for name in ("python", "keep") if name in asked}
    how["log_file"] = log_file
    remote = Remote(
        asked["host"], asked.get("ssh_port"), asked.get("identity"), asked.get("ssh_option", ())
    )
    with progress() as on_progress:
        return bench_host(remote, bundles, on_progress=on_progress, **how)


def bench_on_fleet(
    asked: dict[str, Any],
    report_file: Path | None,
    public_key: Path | None,
    outputs: Sequence[Path | None],
    **how: Any,  # noqa: ANN401
) -> Report:
    """Measure on the devices of a file, which and whose bundles no output may replace.

    ``how`` are the options common to all devices, named as in ``run_bench``.
    """
    from bakit.bench import read_report
    from bakit.bench.fleet import bench_fleet, read_targets
    from bakit.files import check_outputs

    targets = read_targets(asked["fleet"], public_key)
    bundles = [bundle.root for target in targets for bundle in target.bundles]
    check_outputs(*outputs, inputs=[asked["fleet"], *bundles])
    earlier = None
    if asked.get("retry_failed"):
        if report_file is None:
            message = "--retry-failed needs --json FILE, the report to complete"
            raise InputError(message)
        earlier = read_report(report_file)
    return bench_fleet(targets, earlier, lambda name: step_lines(f"{safe(name)}: "), **how)


def write_kit_file(bundles: Sequence[Path | Bundle], path: Path, how: dict[str, Any]) -> None:
    """Write a kit of bundles and print what to do with it."""
    from bakit.bench.device.pack import AgentOptions, write_kit
    from bakit.bench.task import make_settings

    queries = how["min_queries"]
    settings = make_settings(queries, how["min_duration_s"], 10, how["threads"], block=queries)
    write_kit(path, bundles, settings, AgentOptions())
    echo(f"kit: {path}")
    next_step("tar xf", Path(path.name), "&& python3 bakit-kit/agent.py evidence   (on the board)")


def bench_on_phone(
    bundles: Sequence[Path | Bundle],
    asked: dict[str, Any],
    **how: Any,  # noqa: ANN401
) -> PhoneResult:
    """Print the page's address, wait for the phone and show progress, all on stderr.

    ``how`` are the options common to all devices, named as in ``run_phone``.
    """
    from bakit.bench.phone.listener import PhoneOptions
    from bakit.bench.phone.run import run_phone

    options = PhoneOptions(**{name: value for name, value in asked.items() if name != "phone"})
    show = _address_printer(options)
    with progress(log=True) as on_progress:
        return run_phone(bundles, options=options, on_address=show, on_progress=on_progress, **how)


def _address_printer(options: PhoneOptions) -> Callable[[PageAddress], None]:
    """Return a function that prints the address, with a QR code if other devices can open it.

    Raises:
        MissingBackendError: If a code is needed and segno is not installed.
    """
    from bakit.bench.phone.listener import is_loopback, network_address

    near = is_loopback(options.bind)
    if not near:
        try:
            import segno
        except ModuleNotFoundError as error:
            need = "the QR code for a phone"
            raise MissingBackendError(need, "phone") from error

    def show(page: PageAddress) -> None:
        if not near:
            segno.make(page.url, micro=False).terminal(sys.stderr, compact=True)
        echo(f"open on the phone: {page.url}", err=True)
        if page.fingerprint is not None:
            echo(
                "the browser shows a warning, because the certificate is self-signed; its "
                f"SHA-256:\n{page.fingerprint}",
                err=True,
            )
        if near and not options.adb:
            echo(
                "only this machine can open this address: for a phone in the same network add "
                f"--bind {network_address() or 'ADDRESS (of this machine)'}; for a phone on USB "
                "add --adb",
                err=True,
            )

    return show
