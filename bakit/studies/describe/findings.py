"""Findings in a described dataset, and advice how to fix them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bakit.data.labels import LEAST_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bakit.studies.describe.document import BadImage, Comparison, Description, Duplicate

_SKIP = "or skip them with bakit train --skip-unreadable"


class Finding(NamedTuple):
    """All errors of one kind."""

    what: str
    advice: str
    lines: tuple[str, ...]
    stops: bool = False


def find(description: Description) -> list[Finding]:
    """Return the findings that have lines, those that stop training first."""
    return [finding for finding in _all(description) if finding.lines]


def verdict(findings: Iterable[Finding]) -> str:
    """Return one line: whether the dataset can be used for training."""
    counts = {False: 0, True: 0}
    for finding in findings:
        counts[finding.stops] += len(finding.lines)
    stops, others = counts[True], counts[False]
    warnings = f"{others} warning{_s(others)}"
    if stops:
        also = f", {warnings}" if others else ""
        return f"{stops} error{_s(stops)}{also}; fix the errors before bakit train"
    return f"{warnings}; bakit train accepts this folder" if others else "no errors found"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _too_few(description: Description) -> Iterator[str]:
    """Yield the reasons why the usable images are not enough for training."""
    if description.usable < LEAST_IMAGES:
        few = f"{description.usable} usable images are too few for a split"
        yield f"{few}; at least {LEAST_IMAGES} are needed"
        return
    if not (description.females and description.males):
        yield f"all images show {'boys' if description.males else 'girls'}"
    ages = description.ages["all"]
    if ages and ages.min == ages.max:
        yield f"all images have the bone age {ages.min:g} months"


def _all(description: Description) -> Iterator[Finding]:
    for kind, what, advice in (
        ("no image", "rows without an image", "add images/<id>.png or delete the rows"),
        ("bad age", "rows without a bone age", "correct labels.csv, or delete the rows"),
        ("bad sex", "rows without a sex", "correct labels.csv, or delete the rows"),
        ("duplicate id", "rows with a repeated id", "keep one row per id"),
    ):
        rows = [problem for problem in description.row_problems if problem.kind == kind]
        lines = tuple(f"labels.csv:{row.row}: {row.reason}" for row in rows)
        yield Finding(what, advice, lines, stops=True)
    spare, unreadable, blank = (
        _images(images) for images in (description.spare, description.unreadable, description.blank)
    )
    yield Finding("several images with the same id", "keep one of them", spare, stops=True)
    advice = "add images; for one sex only, use bakit train --no-sex"
    yield Finding("not enough to train on", advice, tuple(_too_few(description)), stops=True)
    yield Finding("unreadable images", f"copy them again, {_SKIP}", unreadable, stops=True)
    yield Finding("blank images", f"replace them, {_SKIP}", blank, stops=True)
    yield from _duplicates(description.duplicates)
    for other in description.against:
        yield from _comparison(other)
    yield Finding("images without a row", "not used; add rows to use them", description.unlabelled)


def _images(images: Iterable[BadImage]) -> tuple[str, ...]:
    return tuple(f"{image.path}: {image.reason}" for image in images)


def _duplicates(duplicates: Iterable[Duplicate]) -> Iterator[Finding]:
    """Yield duplicates with different labels, then duplicates with equal labels."""
    agree, differ = [], []
    for group in duplicates:
        names = {"age": group.ages_differ, "sex": group.sexes_differ}
        wrong = " and ".join(name for name, differs in names.items() if differs)
        ids = ", ".join(group.ids)
        if wrong:
            differ.append(f"{ids}: different {wrong}")
        else:
            agree.append(ids)
    what = "groups of images with the same pixels"
    advice = "find the correct row, delete the others"
    yield Finding(f"{what} but different labels", advice, tuple(differ))
    advice = "keep one of each, or the training and test splits may share it"
    yield Finding(what, advice, tuple(agree))


def _comparison(other: Comparison) -> Iterator[Finding]:
    leaks = tuple(
        leak.id + (f": named {', '.join(leak.other_ids)} there" * (leak.other_ids != (leak.id,)))
        for leak in other.leaks
    )
    advice = "remove them from one folder, so that no test image is a training image"
    yield Finding(f"images that are also in {other.folder}", advice, leaks)
    advice = "if they are the same radiographs, exclude them with bakit train --exclude"
    yield Finding(f"ids also in {other.folder}, with different pixels", advice, other.shared_ids)
    bad = _images(other.unreadable)
    what = f"images of {other.folder} that could not be compared"
    yield Finding(what, "they are unreadable or blank", bad)
