"""``bakit verify``, ``bakit sign`` and ``bakit check``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import click

from bakit.cli.options import (
    PATH,
    Names,
    json_option,
    provider_option,
    public_key_option,
    threads_option,
)
from bakit.cli.tables import echo, echo_json, hint, next_step, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bakit.bundle import Bundle
    from bakit.export.check.run import Judged


@click.command("verify")
@click.argument("bundle", type=PATH)
@public_key_option
@threads_option
@provider_option
@click.option(
    "--on-device",
    is_flag=True,
    help="Use the target's own runtime only; fail if it cannot run here, such as Core ML on Linux.",
)
@json_option("Print one JSON object per image.")
@click.pass_context
def command(
    ctx: click.Context,
    bundle: Path,
    public_key: Path | None,
    threads: int | None,
    provider: str | None,
    *,
    on_device: bool,
    as_json: bool,
) -> None:
    """Check a bundle's files against its manifest, and its golden outputs on this machine.

    A bundle that cannot run here is checked with its reference runtime, and a message is printed;
    --on-device fails instead. Files that are not sealed are listed as warnings; bakit does not
    read them.

    Exit status: 0 passed, 1 the outputs are off by more than the bundle allows, 2 the bundle is
    damaged or has no golden images, 3 the files match the seal but the target cannot run here.

    \b
    Example:
      bakit verify bakit-bundles/bakit-rsna299-onnx-int8
    """
    from bakit.bundle import Bundle
    from bakit.errors import MissingBackendError, UnsupportedTargetError
    from bakit.targets import get_target
    from bakit.verify import allowed_months, check_golden, mean_change

    opened = Bundle.read(bundle, public_key)
    target = get_target(opened.manifest.target)
    backend = None
    try:
        if provider is not None:
            backend = target.load_backend(provider)
        elif target.reference and not (on_device or target.runs_here):
            backend = target.load_checker()
            echo(
                f"{target.name} cannot run here: checked with {target.reference} instead; run this "
                "command with --on-device on the device",
                err=True,
            )
        checks = check_golden(opened, threads, backend)
    except (MissingBackendError, UnsupportedTargetError) as error:
        count = len(opened.files.digests)
        message = f"{count} files match the seal, the golden images were not run: {error}"
        error.args = (message,)
        _warn_of_unsealed(opened)
        raise
    _warn_of_unsealed(opened)
    if provider is not None:
        echo(f"ran on {checks[0].provider}", err=True)
    for check in checks:
        if as_json:
            echo_json(check)
            continue
        word = "ok" if check.passed else "FAILED"
        echo(
            f"{word}  {check.path}: {check.age_months:.2f} months, expected "
            f"{check.expected_months:.2f}, float model {check.float_months:.2f} "
            f"({check.age_months - check.float_months:+.2f}); box overlap {check.box_iou:.2f}"
            + ("" if check.whole_months is None else f"; whole graph {check.whole_months:.2f}")
        )
    ages = [check.age_months for check in checks]
    passed = all(check.passed for check in checks)
    if not as_json:
        change = mean_change(ages, [check.expected_months for check in checks])
        allowed = allowed_months(opened.manifest)
        echo(f"mean change from the export: {change:.3f} months, limit {allowed:g}")
        change = mean_change(ages, [check.float_months for check in checks])
        echo(f"mean change from the float model: {change:.3f} months")
        if opened.manifest.precision.value.startswith("int8"):
            hint(
                "note: INT8 ranges are of real radiographs, and golden images are generated: only "
                "bakit bench --data measures the accuracy"
            )
    if passed:
        next_step("bakit bench", bundle, "--data DATA --json report.json")
    else:
        next_step("bakit doctor   (libraries and devices), then export the bundle again")
    ctx.exit(0 if passed else 1)


def _warn_of_unsealed(bundle: Bundle) -> None:
    for name in bundle.unsealed():
        echo(f"warning: {name!r} is not sealed; bakit does not read it", err=True)


@click.command("sign")
@click.argument("bundle", type=PATH)
@click.option(
    "--key",
    required=True,
    metavar="FILE",
    type=PATH,
    help="Ed25519 private key: openssl genpkey -algorithm ed25519 -out private.pem",
)
def sign_command(bundle: Path, key: Path) -> None:
    """Sign a bundle; bakit verify --public-key checks the signature.

    \b
    Example:
      openssl genpkey -algorithm ed25519 -out private.pem
      openssl pkey -in private.pem -pubout -out public.pem
      bakit sign bakit-bundles/bakit-rsna299-onnx-int8 --key private.pem
      bakit verify bakit-bundles/bakit-rsna299-onnx-int8 --public-key public.pem
    """
    from bakit.bundle import MANIFEST, Bundle
    from bakit.signature import sign

    Bundle.read(bundle)  # refuses a damaged bundle
    echo(str(sign(bundle / MANIFEST, key)))
    next_step("bakit verify", bundle, "--public-key public.pem")


SHOWN = 5
"""Nodes shown per rule."""


def _print_profiles(ctx: click.Context, _: click.Parameter, value: object) -> None:
    if not value or ctx.resilient_parsing:
        return
    from bakit.export.check.profiles import PROFILES

    rows = (
        (p.name, p.tensorrt, "{} to {}".format(*p.opsets), "yes" if p.int8 else "no", p.title)
        for p in PROFILES.values()
    )
    print_table("", ("profile", "TensorRT", "opset", "INT8", "devices"), rows, left=range(5))
    ctx.exit()


def _profiles() -> Iterable[str]:
    from bakit.export.check.profiles import PROFILES

    return PROFILES


@click.command("check")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=PATH)
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    required=True,
    type=Names("profile", _profiles),
    metavar="NAME",
    help="jetson-nano, jetpack-5, jetpack-6, tensorrt-10 or tensorrt-11; repeatable.",
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_profiles,
    help="List the profiles and exit.",
)
@click.option("--all", "show_all", is_flag=True, help=f"Show all nodes, not {SHOWN} per rule.")
@json_option("Print one JSON object per graph and profile.")
@click.pass_context
def check_command(
    ctx: click.Context,
    paths: tuple[Path, ...],
    profiles: tuple[str, ...],
    *,
    show_all: bool,
    as_json: bool,
) -> None:
    """Find what TensorRT or a Jetson would reject in an ONNX model, without that hardware.

    FILE is an ONNX file or a bundle; of a bundle, the graphs that the profile's TensorRT would
    build are checked. No model is run. docs/check.md lists the rules and their limits.

    Exit status: 0 no error, 1 an error was found, 2 wrong input.

    \b
    Example:
      bakit check model.onnx --profile jetson-nano
      bakit check bakit-bundles/bakit-rsna299-tensorrt-int8 --profile jetpack-6
      bakit check --list
    """
    from bakit.export.check.run import check_paths

    judged = check_paths(paths, profiles)
    for item in judged:
        if as_json:
            echo_json(item)
        else:
            _print_judged(item, show_all=show_all)
    failed = any(item.errors for item in judged)
    next_step(
        "correct the model as listed, then run this command again"
        if failed
        else "bakit bench BUNDLE --host user@device --data DATA --reference FLOAT"
    )
    ctx.exit(1 if failed else 0)


def _print_judged(judged: Judged, *, show_all: bool) -> None:
    counts = {"error": judged.errors, "warning": len(judged.findings) - judged.errors}
    words = [f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count]
    result = ", ".join(words) or "ok"
    print_line(
        f"{judged.file} for {judged.profile} (TensorRT {judged.tensorrt}): {result}; "
        f"{judged.nodes} nodes, opset {judged.opset}, IR {judged.ir_version}"
    )
    ordered = sorted(judged.findings, key=lambda item: (item.severity, item.rule, item.remedy))
    for (severity, rule, remedy), found in groupby(
        ordered, key=lambda item: (item.severity, item.rule, item.remedy)
    ):
        findings = list(found)
        print_line(f"  {severity} {rule} ({len(findings)}): {remedy}")
        shown = findings if show_all else findings[:SHOWN]
        for item in shown:
            place = " ".join(part for part in (item.operator, item.node) if part)
            where = f" in {item.graph}" if item.graph not in {"", "main"} else ""
            print_line(f"    {place}{where}{': ' if place else ''}{item.message}")
        if len(findings) > len(shown):
            print_line(f"    and {len(findings) - len(shown)} more; --all shows them")
