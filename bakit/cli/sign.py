"""``bakit sign``."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.cli.options import PATH
from bakit.cli.tables import echo, next_step


@click.command("sign")
@click.argument("bundle", type=PATH)
@click.option(
    "--key",
    required=True,
    metavar="FILE",
    type=PATH,
    help="Ed25519 private key: openssl genpkey -algorithm ed25519 -out private.pem",
)
def command(bundle: Path, key: Path) -> None:
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
