"""Settings of the unrolled localizer, the same in every command that runs or stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from bakit.settings import BoxRule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Command = Callable[..., Any]

_OPTIONS = {
    "steps": (click.IntRange(0, 1000), "SGD steps of the unrolled localizer."),
    "size": (click.IntRange(16, 1024), "Its image, in pixels."),
    "features": (click.IntRange(2, 512), "Its channels, the paper's p."),
    "labels": (click.IntRange(2, 512), "Its labels at most, the paper's q."),
    "similarity": (click.FloatRange(0), "Its similarity loss: lambda."),
    "continuity": (click.FloatRange(0), "Its continuity loss: mu."),
    "box_rule": (
        click.Choice(get_args(BoxRule)),
        "Its box: of the region most like a hand (score), or of the largest (literal, the paper).",
    ),
}


def localizer_options(command: Command) -> Command:
    """Add an option for each setting of the unrolled localizer."""
    for name, (kind, text) in reversed(_OPTIONS.items()):
        option = "--working-size" if name == "size" else f"--{name.replace('_', '-')}"
        command = click.option(option, name, type=kind, help=text)(command)
    return command


def localizer_changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were given, by name."""
    return {name: options[name] for name in _OPTIONS if options[name] is not None}
