"""``bakit verify`` and ``bakit sign``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bakit.cli.options import PATH, json_option, public_key_option, threads_option
from bakit.cli.tables import echo, echo_json, hint, next_step

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.bundle import Bundle


@click.command("verify")
@click.argument("bundle", type=PATH)
@public_key_option
@threads_option
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
        if target.reference and not (on_device or target.runs_here):
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
    next_step(
        f"bakit bench {bundle} --data DATA --json report.json"
        if passed
        else "bakit doctor   (libraries and devices), then export the bundle again"
    )
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
    next_step(f"bakit verify {bundle} --public-key public.pem")
