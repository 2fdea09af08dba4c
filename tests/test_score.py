"""``bakit score``: every film is one row, whatever happens to it or to the run."""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bakit.bundle import Bundle
from bakit.cli import main
from bakit.cli.options import find_images
from bakit.cli.progress import progress
from bakit.errors import InputError
from bakit.phantoms import make_phantom
from bakit.runtime import Runtime
from bakit.score import sources
from bakit.score.engine import TRIES, LocalReaders, read_all
from bakit.score.journal import Journal
from bakit.score.row import Options, Row, Scored, lost_film
from bakit.score.run import score
from bakit.score.sources import Film, find_films, loaded

ROOT = Path(__file__).parents[1]
IDENTIFYING = (
    *("PatientName", "PatientID", "OtherPatientNames", "PatientAddress", "PatientComments"),
    *("AccessionNumber", "StudyID", "StudyDescription", "InstitutionName", "StationName"),
    *("ReferringPhysicianName", "OperatorsName", "RequestingPhysician", "EthnicGroup"),
)


class Here:
    """Readers without processes."""

    number, chunk = 2, 3

    def __init__(self, bundle, work, known):
        self.runtime, self.work, self.asked = Runtime(bundle), work, {}

    def start(self):
        reader = object()
        self.asked[reader] = [[]]
        return reader

    def send(self, reader, films):
        self.asked[reader].append(films)

    def wait(self, busy):
        reader = next(iter(busy))
        films = self.asked[reader].pop(0)
        return reader, [self.work(self.runtime, film, lambda _: None) for film in films]

    def close(self):
        self.runtime.close()


@pytest.fixture(scope="session")
def pictures():
    """Return films as PNG bytes by name."""
    return {
        f"{seed}.png": cv2.imencode(".png", make_phantom(seed, height=96).image)[1].tobytes()
        for seed in range(4)
    }


@pytest.fixture
def films(tmp_path, pictures):
    """Return a folder of films, of which one is damaged, with other files between them."""
    folder = tmp_path / "films"
    (folder / "deep").mkdir(parents=True)
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    (folder / "deep" / "torn.png").write_bytes(pictures["0.png"][:200])
    (folder / "notes.txt").write_text("no film")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def run(bundle, out, *given, options=Options(sex="F"), readers=Here):  # noqa: B008
    return score([str(item) for item in given], Bundle.read(bundle), out, options, readers)


def rows(out):
    """Return the rows of a table of JSON Lines, without their times."""
    found = [msgspec.json.decode(line, type=Row) for line in out.read_bytes().splitlines()]
    return [msgspec.structs.replace(row, seconds=0.0) for row in found]


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def tarred(path, members):
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as file:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    return path


def listed(*given, sex=None):
    ignored = Counter()
    return list(find_films([str(item) for item in given], sex, ignored)), dict(+ignored)


def test_every_kind_of_source_gives_the_same_rows(fake_bundle, films, tmp_path, pictures):
    archives = [
        zipped(tmp_path / "a.zip", pictures | {"x/readme.txt": b"-", "._0.png": b"-"}),
        tarred(tmp_path / "a.tar", pictures.items()),
        tarred(tmp_path / "a.tgz", pictures.items()),
    ]
    table = tmp_path / "list.csv"
    table.write_text("id;path;sex\n" + "".join(f"n{i};films/{i}.png; Girl\n" for i in range(4)))
    out = tmp_path / "out.jsonl"
    summary = run(fake_bundle, out, films, *archives, table, options=Options())
    sexless = "no sex is given"
    found = rows(out)
    assert {row.error.partition(";")[0] for row in found[:17]} == {
        sexless,
        "the PNG is damaged or incomplete",
    }
    assert all(row.age_months for row in found[17:])
    assert summary.ignored == {".txt": 2}
    assert (summary.films, summary.by_status["error"], summary.read) == (21, 17, 21)

    summary = run(fake_bundle, tmp_path / "f.jsonl", films, *archives, table)
    found = rows(tmp_path / "f.jsonl")
    ids = [*(f"{films}/{i}.png" for i in range(4)), f"{films}/deep/torn.png"]
    ids += [f"{path}/{i}.png" for path in archives for i in range(4)] + [f"n{i}" for i in range(4)]
    assert [row.id for row in found] == ids
    whole = [row for row in found if row.status != "error"]
    assert len(whole) == 20
    for start in range(4, 20, 4):  # the same pixels in another place
        for first, other in zip(whole[:4], whole[start : start + 4], strict=True):
            same = msgspec.structs.replace(other, id=first.id, duplicate_of="")
            assert (same, other.duplicate_of) == (first, first.id)
    assert summary.duplicates == 16
    assert summary.by_sex["F"].films == 20
    with Runtime(Bundle.read(fake_bundle)) as runtime:
        expected = runtime.predict(films / "0.png", "F")
    assert whole[0].age_months == pytest.approx(expected.age_months, abs=0.006)
    assert (whole[0].x0, whole[0].y0, whole[0].x1, whole[0].y1) == expected.box
    assert whole[0].input_sha256 == expected.input_sha256


def test_globs_match_films_and_folders_once(films):
    found, _ = listed(films / "**")
    assert [film.id for film in found] == sorted(film.id for film in listed(films)[0])
    assert [film.id for film in listed(films / "[01].png")[0]] == [
        f"{films}/0.png",
        f"{films}/1.png",
    ]


def test_links_to_folders_are_followed_once_and_broken_ones_are_rows(films, tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "9.png").write_bytes(b"-")
    (films / "deep" / "moved").symlink_to(tmp_path / "elsewhere")
    for name in ("a", "b", "c"):  # 3^40 paths for a walk that follows each one
        (films / "deep" / name).symlink_to(films)
        (tmp_path / "elsewhere" / name).symlink_to("..")
    (films / "gone.png").symlink_to("nothing.png")
    (films / "round").symlink_to("round")
    (films / ".snapshot").mkdir()
    (films / ".snapshot" / "0.png").write_bytes(b"-")
    found, ignored = listed(films)
    assert {film.id.removeprefix(f"{films}/") for film in found} == {
        *(f"{i}.png" for i in range(4)),
        *("gone.png", "round", "deep/torn.png", "deep/moved/deep/9.png"),
    }
    assert len({os.path.realpath(film.path) for film in found}) == len(found)
    assert ignored["hidden folder"] >= 1
    found, _ = listed(films / "**" / "*.png")  # a glob follows no link to a folder
    assert [film.id.rpartition("/")[2] for film in found] == [
        *(f"{i}.png" for i in range(4)),
        *("torn.png", "gone.png"),
    ]
    found, _ = listed(films / "**" / "deep")
    assert f"{films}/deep/torn.png" in {film.id for film in found}


def test_a_folder_that_cannot_be_read_is_a_row(films, tmp_path, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if Path(path).name in {"deep", "locked"}:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, _ = listed(films)
    assert [film.id.rpartition("/")[2] for film in found] == [f"{i}.png" for i in range(4)] + [
        "deep"
    ]
    assert found[-1].fault == "the folder cannot be read (Permission denied)"
    stat = Path.stat

    def vanish(path, **how):
        if path.name == "deep":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return stat(path, **how)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scan)
        patch.setattr(Path, "stat", vanish)
        found, _ = listed(films)
    assert found[-1].fault == "the folder cannot be read (No such file or directory)"
    (tmp_path / "locked").mkdir()
    with pytest.raises(PermissionError):  # the source itself
        listed(tmp_path / "locked")


def test_a_list_with_another_sex_or_file_is_read_again(fake_bundle, films, tmp_path):
    table, out = tmp_path / "list.csv", tmp_path / "out.jsonl"
    table.write_bytes("\ufeffpath;id;sex\r\nfilms/0.png;a;F\r\nfilms/1.png;b;F\r\n".encode())
    assert run(fake_bundle, out, table, options=Options()).read == 2
    before = rows(out)
    table.write_text("path\tid\tsex\nfilms/0.png\ta\tM\nfilms/1.png\tb\tF\n", "utf-16")
    assert run(fake_bundle, out, table, options=Options()).read == 1
    assert [row.sex for row in rows(out)] == ["M", "F"]
    assert rows(out)[0].age_months != before[0].age_months
    table.write_text("path,id,sex\rfilms/0.png,a,M\rfilms/2.png,b,F\r")  # of another archive
    assert run(fake_bundle, out, table, options=Options()).read == 1
    assert rows(out)[1].input_sha256 != before[1].input_sha256
    assert run(fake_bundle, out, table, options=Options()).read == 0


def test_urls_are_sources_and_results(fake_bundle, films, tmp_path, pictures, monkeypatch):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    store = fsspec.filesystem("memory")
    monkeypatch.setattr(store, "store", {})
    monkeypatch.setattr(store, "pseudo_dirs", [""])
    archive = zipped(tmp_path / "a.zip", pictures)
    there = {f"/films/{name}": data for name, data in pictures.items()}
    there |= {"/films/deep/notes.txt": b"-", "/a.zip": archive.read_bytes(), "/films/b.csv": b"-"}
    there |= {"/lists/l.csv": b"path,id\n0.png,x\nmemory://films/1.png,y\n"}
    there |= {"/lists/0.png": pictures["0.png"]}
    store.pipe(there)
    monkeypatch.chdir(tmp_path)
    given = ["memory://films", "memory://a.zip", "memory://lists/l.csv"]
    bundle = Bundle.read(fake_bundle)
    summary = score(given, bundle, "memory://results/out.jsonl", Options(sex="F"), Here)
    assert (summary.read, summary.by_status.get("error", 0)) == (10, 0)
    assert summary.ignored == {".txt": 1, ".csv": 1}
    assert store.cat("/results/out.jsonl") == (tmp_path / "out.jsonl").read_bytes()
    found = rows(tmp_path / "out.jsonl")
    assert [row.id for row in found] == [
        *(f"memory:///films/{i}.png" for i in range(4)),
        *(f"memory:///a.zip/{i}.png" for i in range(4)),
        *("x", "y"),
    ]
    again = score(given, bundle, "memory://results/out.jsonl", Options(sex="F"), Here)
    assert again.read == 0
    run(fake_bundle, tmp_path / "local.jsonl", films / "[0-3].png")
    ages = [row.age_months for row in rows(tmp_path / "local.jsonl")]
    assert [row.age_months for row in found] == [*ages, *ages, *ages[:2]]
    assert [film.id for film in listed("memory://films/*.png")[0]] == [row.id for row in found[:4]]


@pytest.mark.parametrize(
    ("source", "out", "fault"),
    [
        ("memory://nothing", "o.csv", "memory://nothing: no such file or folder"),
        ("nowhere://x", "o.csv", "nowhere://x: Protocol not known"),
        ("0.png", "nowhere://x/o.csv", "nowhere://x/o.csv: Protocol not known"),
        ("0.png", "memory://x/o.xls", "o.xls: unknown kind of table"),
    ],
)
def test_bad_urls_are_refused(refused, fake_bundle, source, out, fault):
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    assert fault in refused("score", source, "--out", out, "--bundle", fake_bundle)


def test_names_that_are_no_utf_8_are_read(fake_bundle, tmp_path, pictures):
    (tmp_path / "films").mkdir()
    for name in (b"\xff.png", b"\xfe.png"):
        (tmp_path / "films" / os.fsdecode(name)).write_bytes(pictures["0.png"])
    (tmp_path / "films" / os.fsdecode(b"\xfd.jpg")).write_bytes(b"-")
    run(fake_bundle, tmp_path / "out.jsonl", tmp_path / "films")
    found = {row.id.rpartition("/")[2]: row.error for row in rows(tmp_path / "out.jsonl")}
    fault = "not a supported image; use PNG, JPEG or DICOM"
    assert found == {"\\xfd.jpg": fault, "\\xfe.png": "", "\\xff.png": ""}


def test_a_labelled_folder_gives_ids_and_sexes(labelled, tmp_path):
    folder = Path(shutil.copytree(labelled.folder, tmp_path / "data"))
    (first, *others) = labelled.samples
    next((folder / "images").glob(f"{first.id}.*")).unlink()
    (folder / "images" / "spare.png").write_bytes(b"-")
    found, _ = listed(folder)
    assert [(film.id, film.sex) for film in found[1:-1]] == [
        (sample.id, "M" if sample.male else "F") for sample in others
    ]
    assert "no image" in found[0].fault
    assert (found[-1].id, found[-1].sex) == ("spare", None)


def test_the_header_gives_the_sex_of_a_dicom_tree(fake_bundle, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    folder = tmp_path / "tree" / "1.2.840.7"  # files without a suffix, or with a wrong one
    folder.mkdir(parents=True)
    for number, sex in enumerate(("M", "F", "O", "SECRET")):
        image = make_phantom(number, height=96).image
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
        ds.Modality, ds.PatientSex, ds.PhotometricInterpretation = "CR", sex, "MONOCHROME2"
        for keyword in IDENTIFYING:
            setattr(ds, keyword, "SECRET")
        ds.Rows, ds.Columns = image.shape
        ds.BitsAllocated = ds.BitsStored = 8
        ds.HighBit, ds.SamplesPerPixel, ds.PixelRepresentation = 7, 1, 0
        ds.PixelData = image.tobytes()
        pydicom.dcmwrite(folder / f"1.2.840.7.{number}", ds, enforce_file_format=True)
    (folder / "DICOMDIR").write_bytes((folder / "1.2.840.7.0").read_bytes())
    out = tmp_path / "out.jsonl"
    run(fake_bundle, out, tmp_path / "tree", options=Options())
    assert [row.sex for row in rows(out)] == ["M", "F", None, None]
    assert [row.status == "error" for row in rows(out)] == [False, False, True, True]
    assert b"SECRET" not in out.read_bytes() + (tmp_path / "out.jsonl.journal").read_bytes()
    run(fake_bundle, tmp_path / "m.jsonl", tmp_path / "tree", options=Options(sex="M"))
    assert [row.sex for row in rows(tmp_path / "m.jsonl")] == ["M", "F", "M", "M"]


def test_bombs_and_damaged_archives_are_rows(tmp_path, monkeypatch, pictures):
    monkeypatch.setattr(sources, "MAX_PACKED", 1 << 16)
    monkeypatch.setattr(sources, "SPARE", 1 << 14)
    good, big = ("0.png", pictures["0.png"]), ("big.png", bytes(1 << 20))
    deep = tarred(tmp_path / "deep.tgz", [good, ("x.png", bytes(20_000_000)), good])
    long = io.BytesIO()
    with tarfile.open(fileobj=long, mode="w", format=tarfile.GNU_FORMAT) as file:
        file.addfile(tarfile.TarInfo("first"))
        file.addfile(tarfile.TarInfo("n" * 100_000))
    (tmp_path / "long.tar").write_bytes(long.getvalue())
    cut = zipped(tmp_path / "cut.zip", dict([good]))
    cut.write_bytes(cut.read_bytes()[:-30])
    wrong = zipped(tmp_path / "wrong.zip", dict([good]))
    data = bytearray(wrong.read_bytes())
    data[100] ^= 255  # in the deflated bytes
    wrong.write_bytes(data)
    given = [
        zipped(tmp_path / "big.zip", dict([good, big])),
        tarred(tmp_path / "big.tar", [good, big]),
        tarred(tmp_path / "big.tgz", [good, big]),
        deep,
        tmp_path / "long.tar",
        cut,
        wrong,
    ]
    found = list(loaded(listed(*given)[0]))
    faults = [(film.id.removeprefix(f"{tmp_path}/"), film.fault) for film in found]
    assert [name for name, fault in faults if not fault] == [
        *(f"big.{kind}/0.png" for kind in ("zip", "tar", "tgz")),
        "deep.tgz/0.png",
    ]
    assert [film.data for film in found if not film.fault] == [pictures["0.png"]] * 4
    faulty = {name: fault for name, fault in faults if fault}
    assert faulty["big.zip/big.png"] == "1 MiB; at most 0 in an archive"
    assert "'x.png' inflates to more than" in faulty["deep.tgz"]
    assert "header of 100001 bytes" in faulty["long.tar"]
    assert "damaged after 0 files" in faulty["cut.zip"]
    assert "cannot be read from the archive" in faulty["wrong.zip/0.png"]


def test_what_an_archive_does_not_give_is_a_row_and_stops_no_other(fake_bundle, tmp_path, pictures):
    """Encrypted files, also without a suffix; links, a device, archives, paths outside."""
    good = pictures["0.png"]
    secret = zipped(tmp_path / "s.zip", {"0.png": good, "IM1": good, "../1.png": pictures["1.png"]})
    data = bytearray(secret.read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.find(mark)
        for _ in range(2):
            data[place + at] |= 1  # encrypted
            place = data.find(mark, place + 4)
    secret.write_bytes(data)
    with tarfile.open(tmp_path / "l.tar", "w") as file:
        for name, kind in (("h.png", tarfile.LNKTYPE), ("s.DCM", tarfile.SYMTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "../../etc/passwd"
            file.addfile(entry)
        for name, kind in (("null", tarfile.CHRTYPE), ("empty.png", tarfile.REGTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type = kind
            file.addfile(entry)
        for name in ("2.png", "/etc/a\r\nb.png", "in.ZIP", ".in.tar"):
            entry = tarfile.TarInfo(name)
            entry.size = len(good)
            file.addfile(entry, io.BytesIO(good))
    run(fake_bundle, tmp_path / "out.jsonl", secret, tmp_path / "l.tar")
    found = [
        (row.id.removeprefix(f"{tmp_path}/"), row.error.partition(";")[0])
        for row in rows(tmp_path / "out.jsonl")
    ]
    assert found == [
        ("s.zip/0.png", "encrypted"),
        ("s.zip/IM1", "encrypted"),
        ("s.zip/../1.png", ""),
        ("l.tar/h.png", "a link or a device"),
        ("l.tar/s.DCM", "a link or a device"),
        ("l.tar/empty.png", "the file is empty"),
        ("l.tar/2.png", ""),
        ("l.tar//etc/a\\r\\nb.png", ""),
        ("l.tar/in.ZIP", "an archive in an archive"),
    ]


@settings(max_examples=25)
@given(st.data())
def test_no_damage_to_an_archive_stops_the_others(tmp_path_factory, data):
    kind = data.draw(st.sampled_from([".zip", ".tar", ".tgz"]))
    path = tmp_path_factory.getbasetemp() / f"any{kind}"
    members = {f"{i}.png": bytes([i]) * 50 for i in range(3)}
    zipped(path, members) if kind == ".zip" else tarred(path, members.items())
    changed = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(changed[: data.draw(st.integers(0, len(changed)))])
    with suppress(InputError):  # it looks like an empty archive
        for film in loaded(listed(path)[0]):
            assert film.fault or film.data or film.member is not None


def test_a_folder_and_its_archive_hold_the_films_that_predict_takes(tmp_path):
    marked, film = bytes(128) + b"DICM", tmp_path / "tree" / "a.png"
    members = {
        "a.png": b"",
        "b.JPEG": b"",
        "1.2.840.10008": marked,  # a DICOM file named by its UID
        "IM0001": marked,
        "deep/er/c.dcm": b"",
        "DICOMDIR": marked,
        "deep/dicomdir": marked,  # as a CD names it under Linux
        "notes.txt": b"text",
        "empty": b"",
        ".hidden.png": b"",
        "._a.png": b"",
        ".cache/d.png": b"",
        "__MACOSX/._b.png": b"",
    }
    for name, data in members.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "tree" / "lost.png").symlink_to("nowhere")
    expected = ["1.2.840.10008", "IM0001", "a.png", "b.JPEG", "lost.png", "deep/er/c.dcm"]
    found, ignored = listed(tmp_path / "tree")
    assert [film.id for film in found] == [f"{tmp_path}/tree/{name}" for name in expected]
    assert ignored == {".txt": 1, "without suffix": 1, "hidden folder": 1}
    assert [str(path) for path in find_images([tmp_path / "tree"])] == [film.id for film in found]
    for archive in (
        zipped(tmp_path / "t.zip", members),
        tarred(tmp_path / "t.tar", members.items()),
    ):
        names = {film.id.removeprefix(f"{archive}/") for film in listed(archive)[0]}
        assert names == set(expected) - {"lost.png"}
    assert [path.name for path in find_images([film])] == ["a.png"]


def test_a_file_that_a_tar_has_twice_is_two_rows(fake_bundle, tmp_path, pictures):
    data = pictures["0.png"]
    path = tarred(tmp_path / "a.tar", [("0.png", data), ("0.png", data)])
    run(fake_bundle, tmp_path / "out.jsonl", path)
    assert [row.id for row in rows(tmp_path / "out.jsonl")] == [f"{path}/0.png", f"{path}/0.png@1"]


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (
            "path,age\na.png,3\n",
            "list.csv: unknown column 'age'; the columns of a list are path,id",
        ),
        ("id,sex\na,F\n", "list.csv: path is missing, or twice"),
        ("path,path\na,a\n", "list.csv: path is missing, or twice"),
        ("", "list.csv: path is missing"),
        ("path,sex\na.png,F\nb.png,x\n", "list.csv:3: sex 'x' is not possible; use F or M"),
        ("path,sex\na.png,F,1\n", "list.csv:2: a row is path,sex"),
        ("path,sex\n,F\n", "list.csv:2: a row is path,sex"),
        ("path,id\na.png,x\nb.png,x\n", "two films have the id 'x'"),
        ("path\n\xff\n", "list.csv: not a CSV text file"),
        ("path\n", "list.csv: no PNG, JPEG or DICOM file"),
        (
            'path,id\n"a.png,x\nb.png,y\n',
            "not a CSV text file (unexpected end of data; is a quote",
        ),
    ],
)
def test_a_bad_list_is_refused(refused, fake_bundle, tmp_path, table, fault):
    (tmp_path / "list.csv").write_bytes(table.encode("latin-1"))
    line = refused("score", "list.csv", "--out", "out.csv", "--bundle", fake_bundle)
    assert fault in line


def test_bad_arguments_are_refused(refused, fake_bundle, films, tmp_path):
    bundle = ("--bundle", fake_bundle)
    assert "none: no such file or folder" in refused("score", "none", "--out", "o.csv", *bundle)
    assert "use .csv, .jsonl, .parquet" in refused("score", films, "--out", "o.xls", *bundle)
    assert "--address needs --engine ray" in refused(
        "score", films, "--out", "o.csv", "--address", "x:1", *bundle
    )
    line = refused("score", films, films, "--out", "o.csv", *bundle)
    assert f"two films have the id '{films}/0.png', the second is {films}/0.png; give" in line
    (tmp_path / "empty").mkdir()
    zipped(tmp_path / "empty.zip", {})
    for empty in ("empty", "empty.zip"):
        line = refused("score", films, empty, "--out", "o.csv", *bundle)
        assert f"{empty}: no PNG, JPEG or DICOM file" in line
    assert "a source is empty; name a file" in refused("score", "", "--out", "o.csv", *bundle)
    assert "no\\nsuch: no such file" in refused("score", "no\nsuch", "--out", "o.csv", *bundle)
    os.mkfifo(tmp_path / "p.csv.journal")
    line = refused("score", films, "--out", "p.csv", *bundle)
    assert "p.csv.journal: exists, and was not written by bakit score" in line
    (tmp_path / "dir.csv").mkdir()
    assert "dir.csv: Is a directory" in refused("score", films, "--out", "dir.csv", *bundle)
    (tmp_path / "o.csv").write_text("mine")
    assert "was not written by bakit score" in refused("score", films, "--out", "o.csv", *bundle)
    (tmp_path / "o.csv.journal").write_text("mine\n")
    assert "its rows have schema_version None" in refused("score", films, "--out", "o.csv", *bundle)


def test_a_table_of_another_bundle_or_of_other_options_is_refused(fake_bundle, films, tmp_path):
    out = tmp_path / "out.csv"
    run(fake_bundle, out, films)
    before = out.read_bytes(), (tmp_path / "out.csv.journal").read_bytes()
    with pytest.raises(
        InputError, match=r"its rows have options .*'sex': 'F'.*; use another --out"
    ):
        run(fake_bundle, out, films, options=Options(sex="M"))
    with pytest.raises(
        InputError, match=r"rows have bundle_sha256 .*, this run abc; use another --out"
    ):
        Journal(out, "abc", Options(sex="F"))
    with (
        Journal(out, Bundle.read(fake_bundle).sha256, Options(sex="F")),
        pytest.raises(InputError, match="another bakit score writes it"),
    ):
        run(fake_bundle, out, films)
    assert before == (out.read_bytes(), (tmp_path / "out.csv.journal").read_bytes())


def test_a_run_continues_wherever_it_ended(fake_bundle, films, tmp_path):
    whole = tmp_path / "whole.jsonl"
    run(fake_bundle, whole, films)
    journal = (tmp_path / "whole.jsonl.journal").read_bytes()
    lines = [0]
    while lines[-1] < len(journal):
        lines.append(journal.index(b"\n", lines[-1]) + 1)
    for at in {*lines, *range(5, len(journal), 97), *(end - 1 for end in lines[1:])}:
        out = tmp_path / "part.jsonl"
        out.unlink(missing_ok=True)
        (tmp_path / "part.jsonl.journal").write_bytes(journal[:at])
        summary = run(fake_bundle, out, films)
        ended = max(sum(end <= at for end in lines) - 2, 0)  # without header
        torn = b'"status":"error"' in journal[: lines[ended + 1]]
        assert summary.read == 5 - ended + torn
        assert rows(out) == rows(whole)
        found = (tmp_path / "part.jsonl.journal").read_bytes().splitlines()[1:]
        assert len(found) == 5 + torn  # errors are read again


def test_a_later_run_reads_new_films_and_errors_alone(fake_bundle, films, tmp_path, pictures):
    out = tmp_path / "out.csv"
    assert run(fake_bundle, out, films).read == 5
    assert run(fake_bundle, out, films / "[01].png").read == 0
    assert len(out.read_text().splitlines()) == 3  # the films of this run, not all of the journal
    (films / "deep" / "torn.png").write_bytes(pictures["0.png"])
    (films / "5.png").write_bytes(pictures["1.png"])
    summary = run(fake_bundle, out, films)
    assert (summary.read, summary.films, "error" in summary.by_status) == (2, 6, False)


def test_tables_of_all_kinds_have_the_same_rows(fake_bundle, films, tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    for name in ("out.csv", "out.jsonl", "out.parquet"):
        run(fake_bundle, tmp_path / name, films)
    expected = [msgspec.structs.asdict(row) for row in rows(tmp_path / "out.jsonl")]
    read = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    with (tmp_path / "out.csv").open(newline="") as file:
        text = list(csv.DictReader(file))
    for row, columns, fields in zip(expected, read, text, strict=True):
        assert columns | {"seconds": 0.0} == row
        assert fields | {"seconds": "0.0"} == {
            name: "" if value is None else str(value) for name, value in row.items()
        }


class Fragile(Here):
    """Readers that die of some films, and now and then for no reason."""

    deaths = 0

    def wait(self, busy):
        reader = next(iter(busy))
        films = self.asked[reader].pop(0)
        self.deaths += 1
        if any(film.id == "poison" for film in films) or (films and self.deaths % 5 == 0):
            return reader, InputError("it died")
        return reader, [Scored(Row(film.id, "accept")) for film in films]


def test_films_of_readers_that_die_are_read_by_others(fake_bundle):
    readers = Fragile(Bundle.read(fake_bundle), None, None)
    films = [Film("poison" if i == 9 else str(i), b"") for i in range(40)]
    found = Counter(
        (s.row.id, s.row.status) for s in read_all(readers, films, partial(lost_film, ""))
    )
    assert found == Counter((f.id, "error" if f.id == "poison" else "accept") for f in films)


def test_readers_that_cannot_start_end_the_run(fake_bundle):
    class Dead(Here):
        def wait(self, busy):
            return next(iter(busy)), InputError("no memory")

    readers = Dead(Bundle.read(fake_bundle), None, None)
    with pytest.raises(InputError, match=r"readers cannot start \(no memory\)"):
        list(read_all(readers, [Film("a", b"")], partial(lost_film, "")))
    assert len(readers.asked) == 2 * readers.number + TRIES + 1


def test_processes_read_each_film_once_and_may_be_killed(exported, films, tmp_path):
    bundle = exported("onnx", "fp32")
    for copy in range(6):  # the same pixels in other bytes
        image = cv2.imread(str(films / f"{copy % 2}.png"), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(films / f"c{copy}.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, copy])
    answers = []

    class Watched(LocalReaders):
        def send(self, reader, message):
            answers.append(message)
            if len(answers) == 8:
                self._processes[reader].kill()
            super().send(reader, message)

    out, other = tmp_path / "two.jsonl", tmp_path / "here.jsonl"
    run(bundle.root, out, films, readers=partial(Watched, workers=2))
    run(bundle.root, other, films)
    assert rows(out) == rows(other)
    assert [row.duplicate_of for row in rows(out)].count("") == 5
    read = sum(answer is None for answer in answers)
    assert read in {4, 5}  # one more if the killed process was reading
    assert len((tmp_path / "two.jsonl.journal").read_bytes().splitlines()) == 12


def test_a_run_that_is_killed_loses_and_doubles_no_row(exported, films, tmp_path):
    bundle = exported("onnx", "fp32")
    for copy in range(20):
        shutil.copy(films / f"{copy % 4}.png", films / f"copy{copy}.png")
    out, journal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.journal"
    words = ["score", str(films), "--out", str(out), "--bundle", str(bundle.root), "--sex", "F"]
    command = [sys.executable, "-m", "bakit", *words, "--workers", "1"]
    for wanted in (3, 12):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") >= wanted:
                os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.001)
        assert not out.exists() or process.returncode == 0
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    run(bundle.root, tmp_path / "here.jsonl", films)
    assert rows(out) == rows(tmp_path / "here.jsonl")
    ids = [msgspec.json.decode(line)[0]["id"] for line in journal.read_bytes().splitlines()[1:]]
    assert max(count for name, count in Counter(ids).items() if "torn" not in name) == 1


def test_a_run_that_cannot_read_leaves_nothing(fake_bundle, films, tmp_path):
    error = InputError("no cluster")

    class Closed(Here):
        def __init__(self, *given):
            raise error

    with pytest.raises(InputError, match="no cluster"):
        run(fake_bundle, tmp_path / "out.csv", films, readers=Closed)
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize("when", ["listing", "journal", "table"])
def test_a_full_disk_is_one_line_and_the_run_continues(fake_bundle, films, tmp_path, when):
    """Every write of the process beyond a size fails, as on a full disk."""
    resource = pytest.importorskip("resource")
    out = tmp_path / "out.csv"
    run(fake_bundle, tmp_path / "whole.csv", films)
    journal = (tmp_path / "whole.csv.journal").stat().st_size
    if when == "table":
        (tmp_path / "whole.csv.journal").rename(tmp_path / "out.csv.journal")
    size = {"listing": 100, "journal": journal // 2, "table": 100}[when]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(OSError, match="the disk or quota is full") as error:
            run(fake_bundle, out, films)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(error.value.filename).startswith(str(tmp_path))
    assert not out.exists()
    run(fake_bundle, out, films)
    assert out.read_text().count("\n") == 6


def test_a_log_has_the_speed_and_the_time_that_is_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("bakit.cli.progress.time.monotonic", lambda: now[0])
    with progress(rate="films") as on_progress:
        for second in range(61):
            now[0] = second
            on_progress("scoring", 1000 + 50 * second, 184_000)  # the first 1,000 were there
    lines = capsys.readouterr().err.splitlines()
    assert [line[len("12:00:00 ") :] for line in lines] == [
        "scoring 2500/184000, 50.0 films/s, about 1 h 0 min left",
        "scoring 4000/184000, 50.0 films/s, about 1 h 0 min left",
    ]


def test_the_command_prints_a_summary_and_exits_as_asked(exported, films, tmp_path):
    bundle = exported("onnx", "fp32").root
    words = ["score", str(films), "--out", str(tmp_path / "o.csv"), "--bundle", str(bundle)]
    words += ["--sex", "F", "--workers", "1"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'o.csv'}: 5 films; 5 read now, ")
    assert any(line.startswith("status: ") and line.endswith("1 error") for line in lines)
    assert "ignored files: 1 .txt" in lines
    assert "next: correct the errors" in result.stderr
    shutil.rmtree(films / "deep")
    assert CliRunner().invoke(main, [*words, "--fail-on", "error"]).exit_code == 0
    (films / "torn.png").write_bytes(b"-")
    result = CliRunner().invoke(main, [*words, "--fail-on", "error", "--json"])
    assert result.exit_code == 1
    assert msgspec.json.decode(result.stdout)["by_status"]["error"] == 1
