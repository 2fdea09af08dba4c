"""Labelled folders: what is read, what is refused, and the 7:2:1 split."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakit.bundle import Bundle
from bakit.data.labels import Sample, read_labels, read_samples
from bakit.data.splits import ids_digest, split
from bakit.errors import BundleError, InputError, LabelsError

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
        ("1,1_20,True\n", ":2: boneage '1_20' is not an age in months (0 to 240)"),
        ("1,inf,True\n", ":2: boneage 'inf' is not an age in months (0 to 240)"),
        ("1,240.5,True\n", ":2: boneage '240.5' is not an age in months (0 to 240)"),
        ("1,100,child\n", ":2: male is 'child'; use True or False, F or M"),
        ("1,100,\n", ":2: male is ''; use True or False"),
        ("1,100\n", ":2: male is ''; use True or False"),
        ("1,147,5,True\n", ":2: 4 fields under 3 columns; write numbers with a point, as 147.5"),
        ("2,100,True\n1,10,True\n2,100,True\n", ":4: id '2' is repeated"),
        ("", ": no rows; expected the header id,boneage,male and rows"),
    ],
)
def test_a_wrong_row_is_named(folder, rows, expected):
    assert refusal(folder, HEADER + rows).startswith(expected)


@pytest.mark.parametrize(
    ("word", "male"), [("TRUE", True), ("0", False), ("f", False), ("Boy", True), ("woman", False)]
)
def test_a_sex_is_a_truth_or_a_word(folder, word, male):
    (folder / "labels.csv").write_text(f"{HEADER}1,100,{word}\n")
    assert [sample.male for sample in read_samples(folder)] == [male]


def test_hidden_files_are_no_images(folder):
    shutil.copy(folder / "images" / "1.png", folder / "images" / "._1.png")
    (folder / "labels.csv").write_text(HEADER + "1,9,True\n")
    assert "._1" not in read_labels(folder).images


@pytest.mark.parametrize("column", ["id", "boneage", "male"])
def test_a_missing_column_is_named(folder, column):
    text = (HEADER + "1,100,True\n").replace(column, "other")
    assert refusal(folder, text) == (f": column '{column}' is missing; expected id,boneage,male")


def test_bytes_that_are_no_text_are_refused(folder):
    (folder / "labels.csv").write_bytes(b"\xff\xfe\x00id")
    with pytest.raises(LabelsError, match=r"not a CSV text file \(save it as CSV in UTF-8\)"):
        read_samples(folder)


def test_a_folder_without_labels_is_refused(folder):
    with pytest.raises(
        LabelsError, match=r"not a data folder: labels\.csv \(id, boneage, male\) is missing"
    ):
        read_samples(folder)


def test_a_table_of_something_else_gets_no_commands(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,train_mae_months,val_mae_months\n1,30,31\n")
    with pytest.raises(LabelsError, match=r"labels\.csv \(id, boneage, male\) is missing$"):
        read_samples(tmp_path)


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
    ("count", "share", "sizes"),
    [
        (10, 0.2, (7, 2, 1)),
        (19, 0.2, (15, 3, 1)),
        (100, 0.2, (70, 20, 10)),
        (100, 0.29, (61, 29, 10)),
        (50, 0.02, (44, 1, 5)),
        (11, 0.5, (5, 5, 1)),
    ],
)
def test_the_parts_have_their_shares_and_one_test_part(count, share, sizes):
    parts = split(numbered(count), validation_share=share)
    assert tuple(map(len, parts)) == sizes
    assert parts.test == split(numbered(count)).test


@pytest.mark.parametrize("share", [0.01, 0.51, 0.0, -1.0, float("nan")])
def test_a_share_for_validation_that_is_not_possible_is_refused(share):
    with pytest.raises(InputError, match=r"is not possible; use 0\.02 to 0\.5"):
        split(numbered(100), validation_share=share)
    with pytest.raises(InputError, match="at least 50 are needed"):
        split(numbered(49), validation_share=0.02)


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


def images_in(folder, *names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.png").touch()


ROWS = "1377,180,False\n1378,12,True\n"


@pytest.mark.parametrize("nested", [False, True])
def test_rsna_s_training_folder_is_read_as_it_comes(tmp_path, nested):
    name = "boneage-training-dataset"
    images_in(tmp_path / name / name if nested else tmp_path / name, 1377, 1378)
    (tmp_path / f"{name}.csv").write_text(HEADER + ROWS)
    images_in(tmp_path / "boneage-test-dataset", 4360)
    (tmp_path / "boneage-test-dataset.csv").write_text("Case ID,Sex\n4360,M\n")
    samples = read_samples(tmp_path)
    assert [(s.id, s.age_months, s.male) for s in samples] == [
        ("1377", 180, False),
        ("1378", 12, True),
    ]
    assert read_samples(tmp_path / f"{name}.csv") == samples
    with pytest.raises(LabelsError, match="column 'boneage' is missing"):
        read_samples(tmp_path / "boneage-test-dataset.csv")


@pytest.mark.parametrize(
    "text",
    [
        "id,boneage,male\n1,180,True\n2,12,False\n",
        "Image ID,male,Bone Age (months)\n1,TRUE,180\n2,FALSE,12\n",
        "Case ID,Sex,boneage\n1,M,180\n2,F,12\n",
        "id;boneage;male\n1.png;180,0;1\n2.JPG;12,0;0\n",
        "\ufeffID\tBoneAge\tMale\n1\t180\tm\n2\t12\tf\n",
        "id,boneage,male\r1,180,True\r2,12,False\r",
        "id, boneage, gender\r\n1, 180, male\r\n2, 12, female\r\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_of_other_programs_are_read(folder, text, encoding):
    text = text.removeprefix("\ufeff") if encoding == "utf-16" else text  # it writes its own
    (folder / "labels.csv").write_bytes(text.encode(encoding))
    found = [(s.id, s.age_months, s.male) for s in read_samples(folder)]
    assert found == [("1", 180, True), ("2", 12, False)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "id,male,boneage\n1,True,147,5\n",
            ":2: 4 fields under 3 columns; write numbers with a point",
        ),
        ("id,boneage,male,male\n1,10,True,False\n", ": two columns of 'male'; keep one"),
        ("id,boneage,male,Sex\n1,10,True,F\n", ": two columns of 'male'; keep one"),
        ("id,boneage,Boneage,male\n1,10,20,True\n", ": two columns of 'boneage'; keep one"),
        ("id,boneage,sex\n1,10,1\n", ":2: sex is '1'; use M or F"),
        ("Case ID,Sex\n1,M\n", ": column 'boneage' is missing"),
    ],
)
def test_an_ambiguous_table_is_refused(folder, text, expected):
    assert refusal(folder, text).startswith(expected)


def test_ages_in_years_are_refused(tmp_path):
    images_in(tmp_path / "images", *range(12))
    rows = [f"{index},{index + 4.5},True\n" for index in range(12)]
    assert refusal(tmp_path, HEADER + "".join(rows)) == (
        ": all ages are below 16, probably years; use months"
    )


def test_a_table_beside_other_folders_gets_its_commands(tmp_path):
    for part in (1, 2):
        images_in(tmp_path / "set 1" / f"boneage-validation-dataset-{part}", 1380 + part)
    (tmp_path / "set 1" / "Validation Dataset.csv").write_text(
        "Image ID,male,Bone Age (months)\n1381,TRUE,94\n1382,FALSE,61\n"
    )
    with pytest.raises(LabelsError) as caught:
        read_samples(tmp_path / "set 1")
    command = str(caught.value).partition("make one: ")[2]
    subprocess.run(["bash", "-c", command], check=True)
    assert [sample.id for sample in read_samples(tmp_path / "set 1")] == ["1381", "1382"]


def test_a_missing_folder_and_a_folder_without_labels_have_two_messages(tmp_path):
    with pytest.raises(LabelsError, match="nothing: no such folder"):
        read_samples(tmp_path / "nothing")
    with pytest.raises(LabelsError, match="not a data folder"):
        read_samples(tmp_path)
    with pytest.raises(BundleError, match="nothing: no such folder"):
        Bundle.read(tmp_path / "nothing")
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.read(tmp_path)
