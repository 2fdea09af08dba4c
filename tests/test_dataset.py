"""Labelled folders: what is read, what is refused, and the 7:2:1 split."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakit.data.labels import Sample, ids_digest, read_samples, split
from bakit.errors import InputError, LabelsError

HEADER = "id,boneage,male\n"


@pytest.fixture
def folder(tmp_path):
    """A data folder with images ``1`` and ``2`` and no labels; images are not opened."""
    (tmp_path / "images").mkdir()
    for name in ("1.png", "2.JPG"):
        (tmp_path / "images" / name).touch()
    return tmp_path


def refusal(folder, text):
    """Write ``labels.csv``, read the folder, and return the one line that refuses it."""
    (folder / "labels.csv").write_text(text)
    with pytest.raises(LabelsError) as caught:
        read_samples(folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message.removeprefix(str(folder / "labels.csv"))


def test_rows_become_samples_in_their_order(folder):
    (folder / "labels.csv").write_text("id,boneage,male,x0\n2,96.5,False,7\n1, 0 , true ,8\n")
    assert read_samples(folder) == [
        Sample("2", folder / "images/2.JPG", 96.5, male=False),
        Sample("1", folder / "images/1.png", 0.0, male=True),
    ]


def test_a_byte_order_mark_is_no_part_of_the_header(folder):
    (folder / "labels.csv").write_text("\ufeff" + HEADER + "1,9,True\n", encoding="utf-8")
    assert [sample.id for sample in read_samples(folder)] == ["1"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("3,100,True\n", ":2: id '3' has no image"),
        ("../1,100,True\n", ":2: id '../1' has no image"),
        (",100,True\n", ":2: id '' has no image"),
        ("1,-1,True\n", ":2: boneage '-1' is not an age in months (0 to 240)"),
        ("1,ten,True\n", ":2: boneage 'ten' is not an age in months (0 to 240)"),
        ("1,,True\n", ":2: boneage '' is not an age in months (0 to 240)"),
        ("1,nan,True\n", ":2: boneage 'nan' is not an age in months (0 to 240)"),
        ("1,inf,True\n", ":2: boneage 'inf' is not an age in months (0 to 240)"),
        ("1,240.5,True\n", ":2: boneage '240.5' is not an age in months (0 to 240)"),
        ("1,100,boy\n", ":2: male is 'boy'; use True or False"),
        ("1,100,\n", ":2: male is ''; use True or False"),
        ("1,100\n", ":2: male is None; use True or False"),
        ("2,100,True\n1,10,True\n2,100,True\n", ":4: id '2' is repeated"),
        ("", ": no rows; expected the header id,boneage,male and a row per image"),
    ],
)
def test_a_wrong_row_is_named(folder, rows, expected):
    assert refusal(folder, HEADER + rows).startswith(expected)


@pytest.mark.parametrize("column", ["id", "boneage", "male"])
def test_a_missing_column_is_named(folder, column):
    text = (HEADER + "1,100,True\n").replace(column, "other")
    assert refusal(folder, text) == (f": column '{column}' is missing; expected id,boneage,male")


def test_bytes_that_are_no_text_are_refused(folder):
    (folder / "labels.csv").write_bytes(b"\xff\xfe\x00id")
    with pytest.raises(LabelsError, match="not a CSV text file"):
        read_samples(folder)


def test_a_folder_without_labels_is_refused(folder):
    with pytest.raises(
        LabelsError, match=r"not a data folder: labels\.csv \(id, boneage, male\) is missing"
    ):
        read_samples(folder)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text(HEADER + "1,100,True\n")
    with pytest.raises(LabelsError, match=r"images belong in images/<id>\.png"):
        read_samples(tmp_path)


@given(text=st.text(max_size=80))
def test_any_text_is_read_or_refused_in_one_line(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "wild-labels"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "images" / "1.png").touch()
    (folder / "labels.csv").write_text(HEADER + text, encoding="utf-8")
    try:
        outcome = {sample.id for sample in read_samples(folder)}
    except LabelsError as error:
        outcome = len(str(error).splitlines())
    assert outcome in ({"1"}, 1)


def numbered(count):
    return [Sample(f"{i}", Path(f"{i}.png"), 100.0, male=True) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "sizes"), [(10, (7, 2, 1)), (19, (15, 3, 1)), (100, (70, 20, 10))]
)
def test_the_parts_are_seven_to_two_to_one(count, sizes):
    assert tuple(map(len, split(numbered(count)))) == sizes


@given(st.integers(10, 200), st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_parts_are_disjoint_and_whole_in_any_order(count, seed, random):
    samples = numbered(count)
    parts = split(samples, seed)
    assert sorted(s.id for part in parts for s in part) == sorted(s.id for s in samples)
    random.shuffle(samples)
    assert split(samples, seed) == parts


def test_the_seed_decides_the_split():
    assert split(numbered(50), 3) == split(numbered(50), 3)
    assert split(numbered(50), 3) != split(numbered(50), 4)


def test_excluded_ids_are_in_no_part():
    samples = numbered(40)
    parts = split(samples, 0, exclude=["3", "5", "not there"])
    assert {s.id for part in parts for s in part} == {s.id for s in samples} - {"3", "5"}


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_images_are_refused(count):
    with pytest.raises(InputError, match=f"{count} labelled images are too few"):
        split(numbered(count))


def test_the_digest_of_a_part_ignores_its_order():
    samples = numbered(5)
    assert ids_digest(samples) == ids_digest(samples[::-1])
    assert ids_digest(samples) != ids_digest(samples[1:])
    # Ids are kept apart: 1 and 23 are not 12 and 3.
    assert ids_digest([samples[1]._replace(id="1"), samples[1]._replace(id="23")]) != ids_digest(
        [samples[1]._replace(id="12"), samples[1]._replace(id="3")]
    )
