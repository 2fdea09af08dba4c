"""``bakit check``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import click

from bakit.cli.options import PATH, Names, json_option
from bakit.cli.tables import echo_json, next_step, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bakit.export.check.run import Judged

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
def command(
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
      bakit check bakit-bundles/bakit-rsna299-tensorrt-int8 --profile jetpack-6 --json
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
