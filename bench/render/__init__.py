"""Render a report as a self-contained HTML page, or as Markdown for a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.bench.render.markdown import render_markdown
from bakit.errors import MissingBackendError

if TYPE_CHECKING:
    from bakit.bench.report.document import Report

__all__ = ["check_html", "render_html", "render_markdown"]


def check_html() -> None:
    """Raise ``MissingBackendError`` if jinja2 is not installed."""
    try:
        import bakit.bench.render.page  # noqa: F401, PLC0415  # jinja2 is an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"jinja2", "markupsafe"}:
            raise
        need = "writing an HTML report"
        raise MissingBackendError(need, "report") from error


def render_html(report: Report) -> str:
    """Return a report as one HTML page without scripts or network requests, light and dark.

    Raises:
        MissingBackendError: If jinja2 is not installed.
        InputError: If the report's samples are damaged.
    """
    check_html()
    from bakit.bench.render.page import page  # noqa: PLC0415

    return page(report)
