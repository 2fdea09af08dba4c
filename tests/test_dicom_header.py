"""What a DICOM header says of child, side and study: in reports, reviews and `bakit dicom`."""

from __future__ import annotations

import io
import json
import shutil
import subprocess

import pytest
from click.testing import CliRunner

pydicom = pytest.importorskip("pydicom")

from bakit.cli import main  # noqa: E402
from bakit.errors import ImageError, InputError  # noqa: E402
from bakit.image.dicom import read_study  # noqa: E402
from bakit.image.read import read_radiograph  # noqa: E402
from bakit.report.fhir import observation, structured_report, write_reports  # noqa: E402
from bakit.runtime import Runtime  # noqa: E402
from tests.test_dicom import dataset, stored  # noqa: E402


def header(**fields):
    return read_radiograph(stored(dataset(**fields))).header


NO_DATES = {"PatientBirthDate": ""}


@pytest.mark.parametrize(
    ("fields", "months"),
    [
        ({}, 120.0),
        ({"StudyDate": "", "SeriesDate": "20200101"}, 120.0),
        ({"PatientBirthDate": "2010.01.01"}, 120.0),
        ({"PatientBirthDate": "19600101"}, 720.0),
        ({"PatientBirthDate": "1960-01-01"}, 720.0),
        ({"StudyDate": "", "AcquisitionDateTime": "20200101101010.5"}, 120.0),
        ({"PatientBirthDate": "19000101", "PatientAge": "045Y"}, 540.0),
        ({"PatientBirthDate": "20210101", "PatientAge": "045Y"}, 540.0),
        ({"PatientBirthDate": "20210101", "PatientAge": "010Y"}, 120.0),
        ({"PatientAge": "009Y"}, 120.0),
        ({"PatientAge": "045Y"}, 540.0),
        ({"PatientAge": "20000D"}, 657.08),
        (NO_DATES | {"PatientAge": "010Y"}, 120.0),
        (NO_DATES | {"PatientAge": "045Y"}, 540.0),
        (NO_DATES | {"PatientAge": "030M"}, 30.0),
        (NO_DATES | {"PatientAge": "052W"}, 11.96),
        (NO_DATES | {"PatientAge": "003D"}, 0.1),
        (NO_DATES | {"PatientAge": "9y"}, 108.0),
        (NO_DATES | {"PatientAge": "45 Y"}, 540.0),
        (NO_DATES | {"PatientAge": ""}, None),
        (NO_DATES | {"PatientAge": "ten"}, None),
        (NO_DATES | {"PatientAge": "999Y"}, None),
        ({"PatientBirthDate": "20210101"}, None),
        ({"PatientBirthDate": "20100230"}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_the_age_comes_from_dates_or_from_patient_age(fields, months):
    assert header(**fields).age_months == pytest.approx(months, abs=0.1)


@pytest.mark.parametrize(
    ("fields", "doubts"),
    [
        ({}, ()),
        ({"BodyPartExamined": "HAND"}, ()),
        ({"BodyPartExamined": "Wrist "}, ()),
        ({"BodyPartExamined": "UPPER EXTREMITY"}, ()),
        ({"BodyPartExamined": "EXTREMITY"}, ()),
        ({"BodyPartExamined": "CHEST"}, ("other_body_part",)),
        *(
            ({"BodyPartExamined": part}, ("other_body_part",))
            for part in ("LOWER EXTREMITY", "EXTREM INFERIOR", "UPPER LEG", "UPPER ABDOMEN")
        ),
        ({"ImageLaterality": "B"}, ("both_hands",)),
        ({"ImageLaterality": "BOTH"}, ("both_hands",)),
        ({"Modality": "OT"}, ("not_a_radiograph",)),
        ({"Modality": "SC", "Laterality": "B"}, ("not_a_radiograph", "both_hands")),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_doubtful_header_is_reviewed(fake_bundle, fields, doubts):
    data = stored(dataset(**fields))
    with Runtime(fake_bundle) as runtime:
        quality = runtime.predict(data, "F").quality
    assert header(**fields).doubts == doubts
    assert set(doubts) <= set(quality.reasons)
    assert quality.status == ("review" if quality.reasons else "accept")


def predicted(fake_bundle, data):
    with Runtime(fake_bundle) as runtime:
        return runtime.predict(data, "F")


JAPANESE = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"


@pytest.mark.parametrize(
    ("charset", "raw", "name"),
    [
        ("", b"Doe^Jane", "Doe^Jane"),
        ("ISO_IR 192", "Müller^Zoë".encode(), "Müller^Zoë"),
        ("ISO_IR 100", "Müller^Zoë".encode("latin-1"), "Müller^Zoë"),
        ("ISO-IR 100", "Müller^Zoë".encode("latin-1"), "Müller^Zoë"),
        ("ISO_IR 144", "Диана".encode("iso8859-5"), "Диана"),
        ("\\ISO 2022 IR 87", JAPANESE, "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (
            "\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
            "Hong^Gildong=洪^吉洞",
        ),
        ("\\ISO 2022 IR 58", b"Zhang^X=\x1b$)A\xd5\xc5", "Zhang^X=张"),
        ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
        ("ISO_IR 13", b"\xd4\xcf\xc0\xde", "ﾔﾏﾀﾞ"),
        ("SOME CODE", b"Doe^Jane", "Doe^Jane"),
        ("SOME CODE", b"M\xfcller", ""),
        ("ISO_IR 192", b"M\xfcller", ""),
    ],
)
def test_a_report_has_the_name_in_any_character_set(fake_bundle, charset, raw, name):
    """Bytes that nothing explains give an empty name: a wrong one is worse."""
    pytest.importorskip("highdicom")
    mark = b"A" * (len(raw) + len(raw) % 2)
    code = b"B" * (len(charset) + len(charset) % 2)
    plain = dataset(PatientName=mark.decode())
    plain.add_new("SpecificCharacterSet", "CS", "")
    data = stored(plain)
    at = data.index(b"\x08\x00\x05\x00CS\x00\x00")
    field = b"\x08\x00\x05\x00CS" + len(code).to_bytes(2, "little")
    data = data[:at] + field + charset.encode().ljust(len(code)) + data[at + 8 :]
    data = data.replace(mark, raw.ljust(len(mark)))
    report = pydicom.dcmread(
        io.BytesIO(structured_report(predicted(fake_bundle, data), data, "x.dcm"))
    )
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert str(report.PatientName) == name
    assert report.PatientID == "1"


def test_other_tools_find_no_fault_in_a_report(fake_bundle, tmp_path):
    """dcmtk reads the whole document; dicom3tools compares it with the standard."""
    pytest.importorskip("highdicom")
    if not all(map(shutil.which, ("dsrdump", "dcm2json", "dciodvfy"))):
        pytest.skip("no dcmtk or no dicom3tools")
    data = stored(dataset(ImageLaterality="L"))
    (tmp_path / "sr.dcm").write_bytes(structured_report(predicted(fake_bundle, data), data, "x"))

    def run_tool(*words):
        command = [*words, tmp_path / "sr.dcm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stderr.splitlines()
        assert [line for line in lines if line.startswith(("E: ", "F: ", "Error"))] == []
        assert done.returncode == 0
        return done.stdout

    assert "Bone age" in run_tool("dsrdump", "+Pf")
    assert json.loads(run_tool("dcm2json"))["00080060"]["Value"] == ["SR"]
    run_tool("dciodvfy")


TYPE_2 = [
    "AccessionNumber", "PatientBirthDate", "PatientID", "PatientName", "PatientSex",
    "ReferringPhysicianName", "StudyDate", "StudyID", "StudyTime",
]  # fmt: skip


def test_absent_attributes_of_type_2_are_empty_in_the_report(fake_bundle):
    pytest.importorskip("highdicom")
    film = dataset()
    for keyword in TYPE_2:
        del film[keyword]
    data = stored(film)
    report = pydicom.dcmread(
        io.BytesIO(structured_report(predicted(fake_bundle, data), data, "x.dcm"))
    )
    assert not any(str(report[keyword].value or "") for keyword in TYPE_2)
    assert report.StudyInstanceUID == film.StudyInstanceUID


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, "1.2.x"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_missing_uid_is_refused_by_name(fake_bundle, keyword, value):
    pytest.importorskip("highdicom")
    film = dataset()
    del film[keyword]
    if value:
        film.add_new(keyword, "UI", value)
    data = stored(film)
    with pytest.raises(ImageError, match=f"x.dcm: {keyword} is missing or not valid"):
        structured_report(predicted(fake_bundle, data), data, "x.dcm")


@pytest.mark.parametrize(("side", "text"), [("L", "Left"), ("R", "Right"), ("", None)])
def test_reports_name_the_side_the_date_and_the_study(fake_bundle, side, text):
    pytest.importorskip("highdicom")
    data = stored(dataset(ImageLaterality=side, AccessionNumber="A7"))
    prediction = predicted(fake_bundle, data)
    report = str(pydicom.dcmread(io.BytesIO(structured_report(prediction, data, "x.dcm"))))
    assert (f"'{text}'" in report) is bool(text)
    study = read_study(data, "x.dcm")
    found = observation(prediction, study)
    assert found["effectiveDateTime"] == "2020-01-01"
    assert (text or "hand").lower() in found["bodySite"]["coding"][0]["display"].lower()
    assert found["derivedFrom"][0]["identifier"]["value"] == f"urn:oid:{study['StudyInstanceUID']}"
    assert found["basedOn"][0]["identifier"]["value"] == "A7"
    assert "effectiveDateTime" not in observation(prediction)
    assert "Doe" not in json.dumps(found)


def test_no_report_is_written_if_one_cannot_be(fake_bundle, tmp_path):
    pytest.importorskip("highdicom")
    image = tmp_path / "hand.dcm"
    image.write_bytes(stored(dataset()))
    prediction = predicted(fake_bundle, image)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_reports(prediction, image, sr=tmp_path / "sr.dcm", fhir=tmp_path / "folder")
    with pytest.raises(InputError, match="given for two outputs"):
        write_reports(prediction, image, sr=tmp_path / "x", fhir=tmp_path / "x")
    assert not (tmp_path / "sr.dcm").exists()
    assert not (tmp_path / "x").exists()


def run(*arguments):
    return CliRunner().invoke(main, ["dicom", *map(str, arguments)])


def test_the_command_prints_a_header_without_the_patient(tmp_path):
    path = tmp_path / "hand.dcm"
    film = dataset(BodyPartExamined="CHEST", WindowCenter="128", WindowWidth="256")
    path.write_bytes(stored(film))
    result = run(path)
    assert result.exit_code == 0, result.output
    lines = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert lines["modality"] == "DX"
    assert lines["age"] == "120.0 months"
    assert lines["window"] == "LINEAR window, center 128, width 256"
    assert lines["review"] == "other_body_part"
    assert json.loads(run(path, "--json").stdout) == lines
    for secret in ("Doe", "2010", "2020", film.StudyInstanceUID):
        assert secret not in result.stdout


def test_the_command_says_why_a_file_is_refused(tmp_path):
    (tmp_path / "ct.dcm").write_bytes(stored(dataset(Modality="CT")))
    assert "refused: modality CT; use a radiograph" in run(tmp_path / "ct.dcm").stdout
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    result = run(tmp_path / "x.png")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "x.png: not a DICOM file" in result.stderr
