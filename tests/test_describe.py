"""What is said of a labelled folder: every kind of problem is planted and must be found."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bakit.cli import main
from bakit.data.labels import find_unreadable, read_labels, read_samples
from bakit.errors import InputError, LabelsError, MissingBackendError
from bakit.studies.describe.document import Description
from bakit.studies.describe.findings import find, verdict
from bakit.studies.describe.plots import draw_plots
from bakit.studies.describe.run import describe, read_storage

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
HEADER = "id,boneage,male\n"
NOISE = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)


@pytest.fixture
def folder(labelled, tmp_path):
    """A copy of the phantoms, to be spoilt."""
    return Path(shutil.copytree(labelled.folder, tmp_path / "phantoms"))


def add_row(folder, *rows):
    with (folder / "labels.csv").open("a") as table:
        table.writelines(f"{row},0,0,1,1\n" for row in rows)


def replace(folder, name, data):
    """Give an image other bytes."""
    (folder / "images" / f"{name}.png").write_bytes(data)


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def run(*arguments):
    return CliRunner().invoke(main, ["describe", *map(str, arguments)])


# What is in the set


def test_a_sound_folder(labelled):
    done = []
    found = describe(labelled.folder, on_progress=lambda *told: done.append(told))
    assert done == [("images", count, 12) for count in range(1, 13)]
    assert (found.rows, found.images, found.usable) == (12, 12, 12)
    males = [sample for sample in labelled.samples if sample.male]
    assert (found.males, found.females) == (len(males), 12 - len(males))
    assert found.male_share == pytest.approx(len(males) / 12)
    ages = np.array([sample.age_months for sample in labelled.samples])
    assert found.ages["all"].mean == pytest.approx(ages.mean())
    assert found.ages["all"].sd == pytest.approx(ages.std(ddof=1))
    assert found.ages["all"].median == pytest.approx(np.median(ages))
    assert (found.ages["all"].min, found.ages["all"].max) == (ages.min(), ages.max())
    assert found.ages["male"].images == len(males)
    assert sum(count.male for count in found.ages_by_year) == len(males)
    assert sum(count.female for count in found.ages_by_year) == 12 - len(males)
    assert [count.year for count in found.ages_by_year] == list(range(int(ages.max() // 12) + 1))
    assert (found.heights.min, found.heights.max) == (128, 128)
    assert sum(size.images for size in found.sizes) == 12
    assert [(s.format, s.bits, s.channels, s.images) for s in found.storage] == [("png", 8, 1, 12)]
    assert find(found) == []
    assert verdict([]) == "no errors found"


def test_a_year_begins_on_its_birthday(folder):
    lines = [f"{i},{age},{sex}" for i, (age, sex) in enumerate([(0, "True"), (11.9, "False")])]
    lines += ["2,12,True", "3,240,False"]
    (folder / "labels.csv").write_text(HEADER + "\n".join(lines))
    counts = {c.year: (c.female, c.male) for c in describe(folder).ages_by_year}
    assert (counts[0], counts[1], counts[20], len(counts)) == ((1, 1), (0, 1), (1, 0), 21)


def test_the_most_common_size_comes_first(folder):
    replace(folder, 3, png(NOISE))
    for name in (5, 6):
        replace(folder, name, png(np.roll(NOISE.T, name)))
    sizes = {(s.width, s.height): s.images for s in describe(folder).sizes}
    assert (sizes[30, 40], sizes[40, 30]) == (1, 2)
    counts = list(sizes.values())
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("name", "pixels", "expected"),
    [
        ("a.png", NOISE, ("png", 8, 1)),
        ("a.png", NOISE.astype(np.uint16) * 257, ("png", 16, 1)),
        ("a.png", np.dstack([NOISE] * 3), ("png", 8, 3)),
        ("a.png", np.dstack([NOISE] * 4), ("png", 8, 4)),
        ("a.jpg", NOISE, ("jpeg", 8, 1)),
        ("a.jpg", np.dstack([NOISE] * 3), ("jpeg", 8, 3)),
        ("a.bmp", NOISE, ("other", 0, 0)),
    ],
)
def test_how_pixels_are_stored(tmp_path, name, pixels, expected):
    """Known by content: the file has another suffix."""
    path = tmp_path / "image.png"
    path.write_bytes(cv2.imencode(Path(name).suffix, pixels)[1].tobytes())
    assert read_storage(path) == expected


@pytest.mark.parametrize("filler", [b"", b"\xff\xff", b"\xff\xe1\x00\x06abcd", b"\xff\x01"])
def test_what_stands_before_a_jpeg_s_frame_is_passed(tmp_path, filler):
    data = cv2.imencode(".jpg", NOISE)[1].tobytes()
    path = tmp_path / "image.jpg"
    path.write_bytes(data[:2] + filler + data[2:])
    assert read_storage(path) == ("jpeg", 8, 1)


@given(data=st.binary(max_size=60))
def test_any_bytes_after_a_jpeg_s_start_are_survived(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "wild.jpg"
    path.write_bytes(b"\xff\xd8" + data)
    assert read_storage(path).format == "jpeg"


# What is wrong with it


def test_all_problems_of_all_rows_are_listed(folder):
    add_row(folder, "99,100,True", "0,100,True", "98,x,child")
    table = folder / "labels.csv"
    text = table.read_text().splitlines()
    text[3] = "2,241,True,0,0,1,1"
    text[4] = "3,100,yes,0,0,1,1"
    table.write_text("\n".join(text))
    found = describe(folder)
    assert [(p.row, p.id, p.kind) for p in found.row_problems] == [
        (4, "2", "bad age"),
        (5, "3", "bad sex"),
        (14, "99", "no image"),
        (15, "0", "duplicate id"),
        (16, "98", "no image"),
        (16, "98", "bad age"),
        (16, "98", "bad sex"),
    ]
    assert (found.rows, found.images, found.usable) == (15, 12, 10)
    assert found.row_problems[0].reason == "boneage '241' is not an age in months (0 to 240)"
    with pytest.raises(LabelsError, match=r"labels\.csv:4: boneage '241'"):
        read_samples(folder)


def test_an_id_that_stands_twice_with_a_bad_row_first(folder):
    (folder / "labels.csv").write_text(HEADER + "1,x,True\n1,100,True\n,1,True\n,2,True\n")
    kinds = [(p.row, p.kind) for p in describe(folder).row_problems]
    # Of a row without an id, that it has none is said and no more.
    assert kinds == [(2, "bad age"), (3, "duplicate id"), (4, "no image"), (5, "no image")]


def test_unreadable_and_blank_images(folder):
    replace(folder, 1, b"Dear colleague")
    replace(folder, 4, png(NOISE)[:400])
    replace(folder, 7, png(NOISE * 0))
    found = describe(folder)
    home = folder / "images"
    assert [(image.id, image.path, image.reason) for image in found.unreadable] == [
        ("1", str(home / "1.png"), "not a supported image; use PNG, JPEG or DICOM"),
        ("4", str(home / "4.png"), "the PNG is damaged or incomplete; copy it again"),
    ]
    assert [image.id for image in found.blank] == ["7"]
    assert (found.images, found.usable) == (12, 9)
    assert sum(size.images for size in found.sizes) == 9
    unreadable = find_unreadable(read_samples(folder))
    assert [(sample.id, reason) for sample, reason in unreadable] == [
        ("1", found.unreadable[0].reason),
        ("4", found.unreadable[1].reason),
        ("7", found.blank[0].reason),
    ]


def test_an_image_of_a_bad_row_is_looked_at_too(folder):
    table = folder / "labels.csv"
    table.write_text(table.read_text().replace("\n3,", "\n3,x"))
    replace(folder, 3, b"Dear colleague")
    found = describe(folder)
    assert [problem.id for problem in found.row_problems] == ["3"]
    assert [image.id for image in found.unreadable] == ["3"]


def test_no_image_is_found_unreadable_in_a_sound_folder(labelled):
    done = []
    assert find_unreadable(labelled.samples, lambda *told: done.append(told)) == []
    assert done[-1] == ("checking images", 12, 12)
    assert find_unreadable([]) == []


def test_a_search_that_is_interrupted_does_not_go_on(labelled, monkeypatch):
    decoded = []

    def slow(path):
        decoded.append(path)
        time.sleep(0.05)
        return NOISE

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bakit.data.images.decode", slow)
    monkeypatch.setattr("bakit.data.parallel.MAX_THREADS", 1)
    with pytest.raises(KeyboardInterrupt):
        find_unreadable(labelled.samples * 5, stop)
    assert len(decoded) < 5


def test_images_without_a_row(folder):
    replace(folder, "stray", b"never opened")
    (folder / "images" / "notes.txt").touch()
    found = describe(folder)
    assert (found.unlabelled, found.unreadable, found.images) == (("stray",), (), 12)
    assert [finding.stops for finding in find(found)] == [False]


def test_two_files_of_one_id(folder):
    (folder / "images" / "5.jpg").write_bytes(cv2.imencode(".jpg", NOISE)[1].tobytes())
    found = describe(folder)
    assert [(image.id, image.reason) for image in found.spare] == [
        ("5", "same id as 5.jpg; keep one of them")
    ]
    with pytest.raises(LabelsError, match=r"5\.png: same id as 5\.jpg; keep one of them"):
        read_samples(folder)


def test_duplicates_under_other_names_formats_and_depths(folder):
    """The same grey values: a JPEG and what it decodes to, 8 and 16 bits, grey and colour."""
    images = folder / "images"
    jpeg = cv2.imencode(".jpg", NOISE)[1]
    (images / "jpeg.jpg").write_bytes(jpeg.tobytes())
    replace(folder, "png", png(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)))
    original = cv2.imread(str(images / "2.png"), cv2.IMREAD_GRAYSCALE)
    replace(folder, "deep", png(original.astype(np.uint16) * 257))
    replace(folder, "colour", png(np.dstack([original] * 3)))
    replace(folder, "turned", png(original.T))
    sample = read_labels(folder).rows[2].sample
    same = f"{sample.age_months},{sample.male}"
    add_row(folder, "jpeg,100,True", "png,101,False", f"deep,{same}", f"colour,{same}")
    add_row(folder, f"turned,{same}")
    groups = {g.ids: (g.ages_differ, g.sexes_differ) for g in describe(folder).duplicates}
    assert groups == {("2", "deep", "colour"): (False, False), ("jpeg", "png"): (True, True)}
    lines = [line for finding in find(describe(folder)) for line in finding.lines]
    assert lines == ["jpeg, png: different age and sex", "2, deep, colour"]


# Other folders


def test_leaks_into_another_folder(folder, tmp_path):
    from bakit.phantoms import write_phantoms

    other = write_phantoms(tmp_path / "other", 3, seed=100, height=128)
    images, theirs = folder / "images", other / "images"
    shutil.copy(images / "4.png", theirs / "4.png")
    shutil.copy(images / "6.png", theirs / "twin.png")
    shutil.copy(images / "6.png", theirs / "twin2.png")
    (theirs / "8.png").write_bytes(png(NOISE))
    (theirs / "9.png").write_bytes(b"Dear colleague")
    done = []
    (comparison,) = describe(folder, [other], lambda *told: done.append(told)).against
    assert (len(done), done[-1]) == (20, (f"images of {other.name}", 8, 8))
    leaks = {leak.id: leak.other_ids for leak in comparison.leaks}
    assert leaks == {"4": ("4",), "6": ("twin", "twin2")}
    assert comparison.shared_ids == ("8", "9")
    assert (comparison.folder, comparison.images) == (str(other), 8)
    assert [image.id for image in comparison.unreadable] == ["9"]
    titles = [(len(finding.lines), finding.what) for finding in find(describe(folder, [other]))]
    assert titles == [
        (2, f"images that are also in {other}"),
        (2, f"ids also in {other}, with different pixels"),
        (1, f"images of {other} that could not be compared"),
    ]


def test_another_folder_may_hold_images_alone(folder, tmp_path):
    other = tmp_path / "pictures"
    other.mkdir()
    shutil.copy(folder / "images" / "3.png", other / "hand.png")
    (comparison,) = describe(folder, [other]).against
    assert [(leak.id, leak.other_ids) for leak in comparison.leaks] == [("3", ("hand",))]


@pytest.mark.parametrize("name", ["absent", "empty", "phantoms", "phantoms/../phantoms"])
def test_another_folder_that_cannot_be_compared(folder, refused, tmp_path, name):
    (tmp_path / "empty").mkdir()
    reasons = {"absent": "absent: no such folder", "empty": "no PNG or JPEG images in it"}
    reason = reasons.get(name, "the same folder as DATA")
    assert reason in refused("describe", folder, "--against", name)
    with pytest.raises(InputError, match=reason):
        describe(folder, [tmp_path / name])


# The command


def test_json_is_the_whole_description(folder):
    add_row(folder, "99,100,True")
    replace(folder, 1, b"")
    result = run(folder, "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert msgspec.json.decode(result.stdout, type=Description) == describe(folder)
    keys = json.loads(result.stdout)
    assert list(keys) == list(Description.__struct_fields__)
    assert keys["schema_version"] == 1
    assert keys["row_problems"][0] == {
        "row": 14,
        "id": "99",
        "kind": "no image",
        "reason": "id '99' has no image; expected images/<id>.png",
    }


def test_the_text_ends_with_what_to_do(labelled, folder):
    result = run(labelled.folder)
    assert (result.exit_code, result.stderr.partition("next: ")[0]) == (0, "")
    assert result.stdout.splitlines()[-1] == "no errors found"
    add_row(folder, *(f"{name},100,True" for name in range(50, 63)))
    replace(folder, 1, b"")
    lines = run(folder).stdout.splitlines()
    assert "rows without an image (13): add images/<id>.png or delete the rows" in lines
    assert "  labels.csv:14: id '50' has no image; expected images/<id>.png" in lines
    assert "  ... and 3 more; --json lists all" in lines
    assert not any("id '60'" in line for line in lines)
    assert f"  {folder}/images/1.png: the file is empty" in lines
    assert lines[-1] == "14 errors; fix the errors before bakit train"
    shutil.copy(labelled.samples[2].path, folder / "images/2b.png")
    shutil.copy(labelled.samples[1].path, folder / "images/1.png")
    shutil.copy(labelled.folder / "labels.csv", folder / "labels.csv")
    last = run(folder).stdout.splitlines()[-1]
    assert last == "1 warning; bakit train accepts this folder"


def test_no_usable_image(folder):
    (folder / "labels.csv").write_text(HEADER + "99,100,True\n")
    result = run(folder, "--plots", folder / "plots")
    assert result.exit_code == 1, result.output
    last = "2 errors, 12 warnings; fix the errors before bakit train"
    assert result.stdout.splitlines()[-1] == last
    assert not (folder / "plots").exists()
    assert describe(folder).male_share is None


@pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes on Linux only")
def test_names_that_are_no_text_are_printed(folder):
    (Path(folder) / "images" / b"a\xff\x1b[31m.png".decode(errors="surrogateescape")).touch()
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert "  a\N{REPLACEMENT CHARACTER}\\x1b[31m" in result.stdout.splitlines()
    assert json.loads(run(folder, "--json").stdout)["unlabelled"] == [
        "a\N{REPLACEMENT CHARACTER}\x1b[31m"
    ]


def test_what_the_output_cannot_encode_is_escaped(folder):
    (folder / "images" / "zwölf.png").touch()
    result = CliRunner(charset="ascii").invoke(main, ["describe", str(folder)])
    assert result.exit_code == 0, result.output
    assert "  zw\\xf6lf" in result.stdout.splitlines()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: shutil.rmtree(folder), "no such folder"),
        (lambda folder: (folder / "labels.csv").unlink(), "not a data folder: labels.csv"),
        (lambda folder: (folder / "labels.csv").write_text(HEADER), "no rows"),
        (lambda folder: (folder / "labels.csv").write_text("a,b\n1,2\n"), "column 'id' is missing"),
        (lambda folder: (folder / "labels.csv").write_bytes(b"\x81\xfe"), "not a CSV text file"),
        (lambda folder: shutil.rmtree(folder / "images"), "no such folder; images belong in"),
    ],
)
def test_a_folder_that_cannot_be_read_at_all(folder, refused, spoil, reason):
    spoil(folder)
    assert reason in refused("describe", folder, "--plots", "plots", "--json")


@given(text=st.text(max_size=80))
def test_any_labels_are_described_or_refused(labelled, tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "wild-description"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    shutil.copy(labelled.samples[0].path, folder / "images" / "1.png")
    (folder / "labels.csv").write_text(HEADER + text, encoding="utf-8")
    result = run(folder, "--json")
    if result.exit_code not in {0, 1}:
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.exception
        return
    found = msgspec.json.decode(result.stdout, type=Description)
    assert found.usable <= found.images <= 1
    assert found.rows == found.usable + len({problem.row for problem in found.row_problems})
    result = run(folder)
    assert result.exit_code == 1


# Plots


def test_plots(folder, tmp_path):
    replace(folder, 3, png(NOISE))
    result = run(folder, "--plots", tmp_path / "deep/plots", "--json")
    assert (result.exit_code, result.stderr.partition("next: ")[0]) == (0, "")
    assert json.loads(result.stdout)["usable"] == 12
    drawn = {path.name: path for path in (tmp_path / "deep/plots").iterdir()}
    assert set(drawn) == {"ages.png", "sexes.png", "sizes.png", "contact_sheet.png"}
    for path in drawn.values():
        pixels = cv2.imread(str(path))
        assert min(pixels.shape[:2]) > 300
        assert pixels.std() > 10
    assert (
        f"plot: {tmp_path / 'deep/plots' / 'ages.png'}"
        in run(folder, "--plots", tmp_path / "deep/plots").stdout.splitlines()
    )


def test_plots_of_one_image_and_of_one_size(folder, tmp_path):
    """A name that matplotlib would take for a formula, or has no letters for, is only a name."""
    folder = folder.rename(folder.parent / "$x^{手 骨")
    (folder / "images" / "0.png").rename(folder / "images" / "a$b_$c.png")
    (folder / "labels.csv").write_text(HEADER + "a$b_$c,0,True\n")
    drawn = draw_plots(describe(folder), folder, tmp_path / "plots")
    assert {path.name for path in drawn} == {"ages.png", "sexes.png", "contact_sheet.png"}


def test_the_contact_sheet_leaves_unreadable_images_out(folder, tmp_path):
    replace(folder, 1, b"")
    replace(folder, 2, png(NOISE * 0))
    assert draw_plots(describe(folder), folder, tmp_path / "plots")


def test_large_images_are_drawn_small(folder, tmp_path, monkeypatch):
    from bakit.image.resize import thumbnail

    small = thumbnail(np.zeros((3000, 2000), np.float32), 300)
    assert small.shape == (300, 200)
    assert thumbnail(np.zeros((9000, 16), np.float32), 300).shape == (300, 1)
    grey = np.zeros((100, 50), np.float32)
    assert thumbnail(grey, 300) is grey


def test_plots_that_cannot_be_written_are_refused_before_the_work(refused, folder, monkeypatch):
    (folder / "file").touch()
    monkeypatch.setattr("bakit.studies.describe.run.describe", None)
    for name, fault in (
        ("file", "file' is a file;"),
        ("file/below", "file: not a writable folder"),
    ):
        assert fault in refused("describe", folder, "--plots", folder / name)


def test_plots_that_fail_half_way_leave_nothing(refused, folder, monkeypatch):
    def fail(*_):
        raise InputError("no luck")  # noqa: EM101

    monkeypatch.setattr("bakit.studies.describe.plots._contact_sheet", fail)
    assert refused("describe", folder, "--plots", "plots") == "bakit: no luck"


def test_missing_matplotlib_is_said_before_the_work(refused, labelled, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("bakit.studies.describe.run.describe", None)
    line = refused("describe", labelled.folder, "--plots", "plots", status=3)
    assert line == f"bakit: {MissingBackendError('drawing plots', 'report')}"


def test_no_plots_need_no_matplotlib(labelled, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(labelled.folder).exit_code == 0


# Real radiographs


@pytest.mark.skipif(not (REAL / "originals").is_dir(), reason="needs the real radiographs")
def test_real_originals_share_ids_but_no_pixels_with_their_small_copies():
    folder, other = REAL / "originals", REAL / "masked"
    found = describe(folder, [other])
    assert (found.rows, found.usable, found.females, found.males) == (16, 16, 6, 10)
    assert found.sizes[0] == msgspec.convert(
        {"width": 1514, "height": 2044, "images": 3}, type(found.sizes[0])
    )
    assert find(found) == []
    if (REAL / "rsna100").is_dir():
        small = {sample.id for sample in read_samples(REAL / "rsna100")}
        assert {sample.id for sample in read_samples(folder)} <= small


def test_a_folder_that_teaches_nothing_is_not_called_sound(tmp_path):
    from bakit.phantoms import write_phantoms

    folder = write_phantoms(tmp_path / "data", 12, height=96)
    table = folder / "labels.csv"
    rows = [row.split(",") for row in table.read_text().splitlines()]
    boys = [[name, "100", "True"] for name, *_ in rows[1:]]
    table.write_text("\n".join(",".join(row) for row in [["id", "boneage", "male"], *boys]))
    (learn,) = find(describe(folder))
    assert learn.stops
    assert learn.lines == ("all images show boys", "all images have the bone age 100 months")
    table.write_text("\n".join(",".join(row) for row in [["id", "boneage", "male"], *boys[:4]]))
    learn = next(finding for finding in find(describe(folder)) if finding.stops)
    assert "4 usable images are too few" in learn.lines[0]


def test_blank_lines_do_not_shift_row_numbers(folder):
    table = folder / "labels.csv"
    table.write_text(table.read_text().replace("\n", "\n\n") + "99,100,True\n")
    lines = table.read_text().splitlines()
    (problem,) = describe(folder).row_problems
    assert problem.row == lines.index("99,100,True") + 1
