"""DICOM radiographs: made here in every transfer syntax that can be written, read, refused."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from bakit.cli import main  # noqa: E402
from bakit.errors import ImageError, InputError  # noqa: E402
from bakit.image.read import decode, read_radiograph  # noqa: E402
from bakit.phantoms import make_phantom  # noqa: E402
from bakit.runtime import Runtime  # noqa: E402


def pixels(height=128, bits=8):
    image = make_phantom(6100, height=height, nuisances=()).image
    return image if bits == 8 else (image.astype(np.uint16) << (bits - 8))


def dataset(image=None, bits=8, **fields):
    image = pixels(bits=bits) if image is None else image
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    data.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["image"])
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=["series"])
    data.Modality, data.PhotometricInterpretation = "DX", "MONOCHROME2"
    data.PatientID, data.PatientName, data.PatientSex = "1", "Doe^J", "F"
    data.PatientBirthDate, data.StudyDate, data.StudyTime = "20100101", "20200101", "120000"
    data.AccessionNumber = data.StudyID = data.ReferringPhysicianName = ""
    data.Rows, data.Columns = image.shape[:2]
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.BitsAllocated = 8 * image.dtype.itemsize
    data.BitsStored, data.HighBit = bits, bits - 1
    data.PixelData = image.tobytes()
    for name, value in fields.items():
        setattr(data, name, value)
    return data


def stored(data, syntax=None):
    if syntax is not None:
        if syntax.is_encapsulated:
            data.compress(syntax, generate_instance_uid=False)
        else:
            data.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    pydicom.dcmwrite(out, data, enforce_file_format=True)
    return out.getvalue()


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
    ids=lambda uid: uid.keyword,
)
def test_syntaxes_that_pydicom_writes(syntax, bits):
    image = pixels(bits=bits)
    got = decode(stored(dataset(image, bits), syntax))
    assert np.array_equal(got, (image / np.float64(2**bits - 1)).astype(np.float32))


@pytest.mark.parametrize(
    ("syntax", "bits", "off"),
    [
        ("JPEGBaselineProcess1", 8, 0.05),
        ("JPEGLosslessProcess14_1", 16, 0),
        ("JPEGLosslessProcess14_1", 8, 0),
        ("JPEGLSLossless", 12, 0),
        ("JPEG2000Lossless", 12, 0),
        ("JPEG2000", 8, 0.05),
    ],
)
def test_syntaxes_that_gdcm_writes(tmp_path, syntax, bits, off):
    packed = written_by_gdcm(tmp_path, syntax, bits)
    assert pydicom.dcmread(packed).file_meta.TransferSyntaxUID.is_encapsulated
    assert np.abs(decode(packed) - pixels(bits=bits) / (2**bits - 1)).max() <= off + 1e-6


@pytest.mark.parametrize(
    ("syntax", "bits"),
    [
        ("JPEGBaselineProcess1", 8),
        ("JPEGLosslessProcess14_1", 12),
        ("JPEGLosslessProcess14_1", 16),
        ("JPEGLSLossless", 12),
        ("JPEG2000Lossless", 12),
    ],
)
def test_damaged_pixels_are_refused(tmp_path, syntax, bits):
    """Decoders of lossless JPEG return something for any bits."""
    data = pydicom.dcmread(written_by_gdcm(tmp_path, syntax, bits))
    frame = next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1))
    third = len(frame) // 3
    for bad in (frame[: 2 * third] + b"\xff\xd9", frame[:third] + frame[third + 300 :]):
        data.PixelData = pydicom.encaps.encapsulate([bad])
        with pytest.raises(ImageError, match="damaged"):
            decode(stored(data))


@pytest.mark.parametrize(
    ("syntax", "bits", "old", "new"),
    [
        ("JPEGLosslessProcess14_1", 8, b"\xff\xc3\0\x0b\x08", b"\xff\xc3\0\x0b\x11"),
        ("JPEGLosslessProcess14_1", 16, b"\xff\xc3\0\x0b\x10", b"\xff\xc3\0\x0b\x7f"),
        (
            "JPEGLosslessProcess14_1",
            16,
            b"\xff\xd8",
            b"\xff\xd8\xff\xe0\0\x10JFIF\0\2\1" + bytes(7),
        ),
        ("JPEGLosslessProcess14_1", 16, b"\xff\xd8", b"\xff\xd8\xff\0\0\4ab"),
        ("JPEGBaselineProcess1", 8, b"\xff\xd8", b"\xff\xd8\xff\xe0\0\x10JFIF\0\x7f\1" + bytes(7)),
        ("JPEG2000Lossless", 12, b"\0\1\x0f\1\1\xff", b"\0\1\x7f\1\1\xff"),
        ("JPEG2000Lossless", 12, b"\0\1\x0f\1\1\xff", b"\0\1\xff\1\1\xff"),
    ],
)
def test_what_ends_a_process_in_gdcm_is_refused(tmp_path, syntax, bits, old, new):
    """Samples of more than 16 bits, and whatever its libjpeg only warns of."""
    data = pydicom.dcmread(written_by_gdcm(tmp_path, syntax, bits))
    frame = next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1))
    assert old in frame
    data.PixelData = pydicom.encaps.encapsulate([frame.replace(old, new, 1)])
    with pytest.raises(ImageError, match="damaged"):
        decode(stored(data))


@pytest.mark.parametrize("part", [slice(0, None), slice(1, None), slice(40, None), slice(0, 200)])
def test_a_jpeg_2000_without_head_or_end_is_refused_in_silence(part, capfd):
    pytest.importorskip("gdcm")
    coded = cv2.imencode(".jp2", pixels(bits=8))[1].tobytes()
    coded = coded[coded.index(b"\xff\x4f\xff\x51") :]
    data = dataset(pixels(bits=8), 8)
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    data.PixelData = pydicom.encaps.encapsulate([coded[part]])
    if part == slice(0, None):
        assert decode(stored(data)).shape == pixels(bits=8).shape
    else:
        with pytest.raises(ImageError, match="damaged"):
            decode(stored(data))
    assert capfd.readouterr() == ("", "")


def written_by_gdcm(folder, syntax, bits):
    gdcm = pytest.importorskip("gdcm")
    plain, packed = folder / "plain.dcm", folder / "packed.dcm"
    plain.write_bytes(stored(dataset(pixels(bits=bits), bits)))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(packed))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return packed


def test_monochrome1_is_inverted_after_the_window():
    image = pixels(bits=12)
    window = {"WindowCenter": 2048, "WindowWidth": 3000}
    usual = decode(stored(dataset(image, 12, **window)))
    other = decode(stored(dataset(image, 12, PhotometricInterpretation="MONOCHROME1", **window)))
    assert np.allclose(other, 1 - usual, atol=1e-6)
    assert usual.std() > 0.05


def test_modality_before_voi_lut():
    image = pixels(bits=12)
    # The window is in the units of the rescaled values: any other order would leave one grey.
    rescaled = {"RescaleSlope": 2, "RescaleIntercept": 10000, "RescaleType": "US"}
    window = {"WindowCenter": 10000 + 4096, "WindowWidth": 8192}
    got = decode(stored(dataset(image, 12, **rescaled, **window)))
    assert np.corrcoef(got.ravel(), image.ravel())[0, 1] > 0.999
    assert np.ptp(got) > 0.5


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"Modality": "CT"}, "modality CT; use a radiograph"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colour pixels"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette pixels"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "FOR PRESENTATION"),
        ({"Rows": 60000, "Columns": 60000}, "the limit is 100 million"),
        ({"Rows": 500}, "cannot be decoded"),
        ({"BitsStored": 12}, "12 bits stored in 8"),
    ],
)
def test_what_is_no_grey_radiograph_is_refused(fields, text):
    with pytest.raises(ImageError, match=text):
        decode(stored(dataset(**fields)))


def test_a_file_cut_short_or_damaged_is_refused():
    data = stored(dataset())
    for bad in (data[:200], data[: len(data) // 2], data[:140] + b"\xff" * 300):
        with pytest.raises(ImageError):
            decode(bad)


def test_a_file_without_a_transfer_syntax_is_refused():
    data = stored(dataset())
    syntax = dataset().file_meta.TransferSyntaxUID.encode()
    at = data.index(syntax)
    for bad in (
        data.replace(syntax, b"9" + syntax[1:], 1),
        data[: at - 8] + b"\x02\x00\xf1\xf1" + data[at - 4 :],
    ):
        with pytest.raises(ImageError, match="without a transfer syntax"):
            decode(bad)


@pytest.mark.parametrize("tag", ["BitsAllocated", "SamplesPerPixel", "StudyDate", "PixelData"])
def test_a_value_of_no_known_kind_is_refused(tag):
    """Found by damaging files: values are read late, so an unknown kind shows late."""
    shown = dataset()
    shown.StudyDate = "20200101"
    data = bytearray(stored(shown))
    number = pydicom.datadict.tag_for_keyword(tag)
    start = (number >> 16).to_bytes(2, "little") + (number & 0xFFFF).to_bytes(2, "little")
    at = data.rindex(start)
    data[at + 4 : at + 6] = b"QQ"
    with pytest.raises(ImageError):
        decode(bytes(data))


def test_an_image_larger_than_its_header_is_refused():
    data = dataset(pixels(bits=8))
    data.compress(RLELossless, generate_instance_uid=False)
    bomb = b"\xff\xd8\xff\xc0\x00\x0b\x08" + (60000).to_bytes(2, "big") * 2 + b"\x01" * 9
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    data.PixelData = pydicom.encaps.encapsulate([bomb])
    with pytest.raises(ImageError, match="the image has 60000x60000"):
        decode(stored(data))


@pytest.mark.parametrize("where", ["ImageLaterality", "Laterality"])
def test_a_right_hand_is_mirrored_and_its_box_is_not(fake_bundle, where):
    left, right = (stored(dataset(**{where: side})) for side in "LR")
    film = read_radiograph(right)
    assert film.mirrored
    assert read_radiograph(stored(dataset(**{where: "RIGHT"}))).mirrored
    assert not read_radiograph(left).mirrored
    assert np.array_equal(film.grey, decode(left)[:, ::-1])
    with Runtime(fake_bundle) as runtime:
        prediction = runtime.predict(right)
        inside = runtime.locate(film.grey)
        assert prediction.mirrored
        assert prediction.box == inside.mirror(film.grey.shape[1])
        assert runtime.localize(right).box == prediction.box


def test_sex_comes_from_the_header_and_is_never_guessed(fake_bundle):
    with Runtime(fake_bundle) as runtime:
        assert runtime.predict(stored(dataset())).sex == "F"
        assert runtime.predict(stored(dataset(PatientSex="O")), "M").sex == "M"
        with pytest.raises(InputError, match="sex M was given, but PatientSex is F"):
            runtime.predict(stored(dataset()), "M")
        for said in ("O", ""):
            with pytest.raises(InputError, match=f"PatientSex is '{said}'.*give M or F"):
                runtime.predict(stored(dataset(PatientSex=said)))
        with pytest.raises(InputError, match=r"no sex is given.*give M or F"):
            runtime.predict(pixels())


def test_the_chronological_age_is_that_of_the_study(fake_bundle):
    with Runtime(fake_bundle) as runtime:
        got = runtime.predict(stored(dataset()))
        assert got.chronological_months == pytest.approx(120, abs=0.1)
        assert got.difference_months == pytest.approx(got.age_months - 120, abs=0.1)
        for fields in ({"StudyDate": ""}, {"PatientBirthDate": "19000101"}):
            assert runtime.predict(stored(dataset(**fields))).chronological_months is None


def test_the_command_reads_dicom_and_writes_both_reports(fake_bundle, tmp_path):
    pytest.importorskip("highdicom")
    image = tmp_path / "hand.dcm"
    image.write_bytes(stored(dataset()))
    (tmp_path / "table.csv").write_text(
        "sex,age_months,mean,sd\nF,100,100,10\nF,140,140,10\nM,100,100,9\nM,140,140,9\n"
    )
    arguments = ["predict", image, "--bundle", fake_bundle, "--sr", tmp_path / "sr.dcm"]
    arguments += ["--fhir", tmp_path / "o.json", "--reference", tmp_path / "table.csv"]
    result = CliRunner().invoke(main, [str(item) for item in arguments])
    assert result.exit_code == 0, result.output
    assert "chronological age of 10 y 0 m; SDS +1.0" in result.stdout
    report = pydicom.dcmread(tmp_path / "sr.dcm")
    assert (report.Modality, report.PatientID) == ("SR", "1")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    text = str(report)
    assert "37362-1" in text
    assert "Algorithm Name" in text
    observation = json.loads((tmp_path / "o.json").read_text())
    assert observation["resourceType"] == "Observation"
    assert observation["valueQuantity"]["code"] == "mo"
    assert observation["code"]["coding"][0]["code"] == "37362-1"


def test_a_data_folder_may_hold_dicom(tmp_path):
    from bakit.data.labels import read_samples

    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.dcm").write_bytes(stored(dataset()))
    (tmp_path / "labels.csv").write_text("id,boneage,male\na,120,False\n")
    (sample,) = read_samples(tmp_path)
    assert np.array_equal(decode(sample.path), decode(pixels()))


def test_a_dicom_and_a_png_of_the_same_pixels_have_the_same_age(fake_bundle):
    image = pixels()
    png = cv2.imencode(".png", image)[1].tobytes()
    with Runtime(fake_bundle) as runtime:
        first, second = runtime.predict(stored(dataset())), runtime.predict(png, "F")
    assert first.age_months == second.age_months
