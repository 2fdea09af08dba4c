"""``bakit node``."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import click

from bakit.cli.options import PATH, Number, bundle_option, only_bundle, public_key_option
from bakit.cli.tables import echo, next_step
from bakit.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_TLS = ("tls_cert", "tls_key", "tls_ca")


@click.command("node")
@click.option("--spool", type=PATH, required=True, help="Folder for films and reports on the way.")
@click.option("--peer", required=True, metavar="TITLE@HOST:PORT", help="Takes the reports.")
@bundle_option
@public_key_option
@click.option("--title", default="BAKIT", help="AE title of the node.")
@click.option("--bind", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=11112, help="DICOM port.")
@click.option(
    "--allow",
    multiple=True,
    metavar="TITLE[@ADDRESS]",
    help="Who may send: an AE title or *, at an address or in a network such as 10.0.0.0/24; "
    "repeatable. Required unless only this machine can connect.",
)
@click.option(
    "--associations",
    type=click.IntRange(1, 200),
    default=8,
    help="Most associations at a time; more are rejected with a transient error.",
)
@click.option("--workers", type=click.IntRange(1), help="Films at a time. Default: one per CPU.")
@click.option(
    "--web-port",
    type=click.IntRange(0, 65535),
    default=9112,
    help="Port of /metrics and /health, on this machine only.",
)
@click.option("--tls-cert", type=PATH, help="Certificate (PEM): listen with TLS only.")
@click.option("--tls-key", type=PATH, help="Its key (PEM).")
@click.option("--tls-ca", type=PATH, help="CA (PEM) whose certificates senders need.")
@click.option("--peer-tls", is_flag=True, help="Send reports with TLS and the same files.")
@click.option(
    "--min-free-mb",
    type=Number(min=0),
    default=500.0,
    help="Refuse films that leave less room than this on the disk.",
)
@click.option(
    "--keep-days",
    type=Number(min=0),
    default=30.0,
    help="Days until refused films are deleted and answered ones forgotten.",
)
def command(
    spool: Path,
    peer: str,
    bundle: Path | None,
    public_key: Path | None,
    allow: tuple[str, ...],
    workers: int | None,
    **given: Any,  # noqa: ANN401  # named as in NodeOptions
) -> None:
    """Run a DICOM node: CR and DX radiographs in, structured reports out to PEER.

    A film is acknowledged when it is on the disk, and kept until its report is delivered. The log
    on stderr has nothing about patients. Ctrl-C or SIGTERM ends the node.

    \b
    Example:
      bakit node --spool /var/lib/bakit --peer PACS@10.0.0.2:104 --bind 0.0.0.0 \\
          --allow MODALITY@10.0.0.5
    """
    from bakit.node.options import Access, NodeOptions, Peer, Tls

    if sys.platform == "win32":
        message = "bakit node locks its spool as POSIX does; run it on Linux or macOS"
        raise InputError(message)
    files = {name: given.pop(name) for name in _TLS}
    missing = [name for name, path in files.items() if path is None]
    if missing and len(missing) < len(files):
        message = f"TLS needs three files: add --{missing[0].replace('_', '-')}"
        raise InputError(message)
    given["tls"] = None if missing else Tls(*files.values())
    access = tuple(map(Access.parse, allow))

    from bakit.processes import cpu_count

    options = NodeOptions(
        spool, Peer.parse(peer), allow=access, workers=workers or cpu_count(), **given
    )
    from bakit.node.run import Node
    from bakit.runtime import Runtime

    _log_one_logger()
    with ExitStack() as stack:
        runtime = stack.enter_context(Runtime(bundle or only_bundle(), 1, public_key=public_key))
        runtime.warm_up()
        node = stack.enter_context(Node(options, runtime))
        echo(f"node: {options.title} at {options.bind}:{node.port}", err=True)
        echo(f"web: http://127.0.0.1:{node.web_port}/metrics and /health", err=True)
        next_step(f"echoscu -aec {options.title} {options.bind} {node.port}")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def _log_one_logger() -> None:
    """Print the node's own log; warnings of libraries may quote a header."""
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("bakit.node")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
