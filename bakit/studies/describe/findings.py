"""What is wrong with a described folder, in words, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bakit.data.labels import LEAST_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bakit.studies.describe.document import BadImage, Comparison, Description, Duplicate

_SKIP = "or leave them out with bakit train --skip-unreadable"


class Finding(NamedTuple):
    """All that is wrong in one way.

    Attributes:
        what: What the lines are.
        advice: What to do about them.
        lines: One a thing that is wrong; at least one.
        stops: Whether training refuses the folder because of it.
    """

    what: str
    advice: str
    lines: tuple[str, ...]
    stops: bool = False


def find(description: Description) -> list[Finding]:
    """Return what is wrong, what stops training first; empty where nothing is."""
    return [finding for finding in _all(description) if finding.lines]


def verdict(findings: Iterable[Finding]) -> str:
    """Return one line that says whether one can train on the folder."""
    counts = {False: 0, True: 0}
    for finding in findings:
        counts[finding.stops] += len(finding.lines)
    stops, others = counts[True], counts[False]
    look = f"{others} thing{_s(others)} to look into"
    if stops:
        also = f"; {look} besides" if others else ""
        return f"{stops} thing{_s(stops)} to mend before bakit train takes this folder{also}"
    return f"{look}; bakit train takes this folder" if others else "nothing wrong found"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _too_few(description: Description) -> Iterator[str]:
    """Say what training could not learn from, however sound each image is."""
    if description.usable < LEAST_IMAGES:
        few = f"{description.usable} usable images are too few for a 7:2:1 split"
        yield f"{few}; at least {LEAST_IMAGES}"
        return
    if not (description.females and description.males):
        yield f"all are {'boys' if description.males else 'girls'}"
    ages = description.ages["all"]
    if ages and ages.min == ages.max:
        yield f"all have the bone age {ages.min:g} months"


def _all(description: Description) -> Iterator[Finding]:
    for kind, what, advice in (
        ("no image", "rows without an image", "add images/<id>.png or delete the rows"),
        ("bad age", "rows without a bone age", "correct labels.csv, or delete the rows"),
        ("bad sex", "rows without a sex", "correct labels.csv, or delete the rows"),
        ("duplicate id", "rows whose id stands above", "keep one row of each id"),
    ):
        rows = [problem for problem in description.row_problems if problem.kind == kind]
        lines = tuple(f"labels.csv:{row.row}: {row.reason}" for row in rows)
        yield Finding(what, advice, lines, stops=True)
    spare, unreadable, blank = (
        _images(images) for images in (description.spare, description.unreadable, description.blank)
    )
    yield Finding("images beside another of the same id", "keep one of them", spare, stops=True)
    advice = "add images; bakit train --no-sex can do with one sex"
    yield Finding("nothing to learn", advice, tuple(_too_few(description)), stops=True)
    yield Finding("unreadable images", f"copy them again, {_SKIP}", unreadable, stops=True)
    yield Finding("blank images", f"replace them, {_SKIP}", blank, stops=True)
    yield from _duplicates(description.duplicates)
    for other in description.against:
        yield from _comparison(other)
    yield Finding(
        "images without a row", "they are not used; add rows to use them", description.unlabelled
    )


def _images(images: Iterable[BadImage]) -> tuple[str, ...]:
    return tuple(f"{image.path}: {image.reason}" for image in images)


def _duplicates(duplicates: Iterable[Duplicate]) -> Iterator[Finding]:
    """Yield duplicates whose rows differ, then those whose rows agree."""
    agree, differ = [], []
    for group in duplicates:
        names = {"age": group.ages_differ, "sex": group.sexes_differ}
        wrong = " and ".join(name for name, differs in names.items() if differs)
        ids = ", ".join(group.ids)
        if wrong:
            differ.append(f"{ids}: not the same {wrong}")
        else:
            agree.append(ids)
    what = "groups of images with the same pixels"
    advice = "find out which row is right, delete the others"
    yield Finding(f"{what} but other labels", advice, tuple(differ))
    advice = "keep one of each: training and test may share it"
    yield Finding(what, advice, tuple(agree))


def _comparison(other: Comparison) -> Iterator[Finding]:
    leaks = tuple(
        leak.id + (f": there it is {', '.join(leak.other_ids)}" * (leak.other_ids != (leak.id,)))
        for leak in other.leaks
    )
    advice = "take them out of one: it must not test what the other trained"
    yield Finding(f"images whose pixels are also in {other.folder}", advice, leaks)
    advice = "where they are the same radiographs, bakit train --exclude leaves them out"
    yield Finding(f"ids that {other.folder} has too, with other pixels", advice, other.shared_ids)
    bad = _images(other.unreadable)
    what = f"images of {other.folder} that could not be compared"
    yield Finding(what, "they are unreadable or blank", bad)
