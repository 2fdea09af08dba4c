"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bakit.files import check_writable, new_file, new_folder, sha256, write_file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_sha256_is_the_digest_in_hex():
    assert sha256(b"abc").startswith("ba7816bf8f01cfea")


def test_write_file_makes_its_folder_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.bin"
    write_file(path, b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["b.bin"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_and_folder_have_the_mode_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_file(tmp_path / "a", b"")
        with new_folder(tmp_path / "b") as folder:
            (folder / "x").write_bytes(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_replaced_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "report.json"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == mode


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # as of a user that may not write
    for write in (lambda path: write_file(path, b""), check_writable, new_folder_of):
        with pytest.raises(PermissionError, match="not a writable folder") as caught:
            write(tmp_path / "new" / "file")
        assert caught.value.filename == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def new_folder_of(path):
    with new_folder(path):
        pytest.fail("the folder was made")


def test_links_are_followed(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "there" / "report.json")
    for data in (b"first", b"second"):  # the first through a link that points nowhere yet
        write_file(link, data)
        assert link.is_symlink()
        assert (tmp_path / "there" / "report.json").read_bytes() == data
    assert names(tmp_path / "there") == ["report.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_gets_the_bytes_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, b"report")
    reader.join(300)
    assert found == [b"report"]
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev here")
@pytest.mark.parametrize("device", ["/dev/null", "/dev/stdout", "/proc/self/fd/1"])
def test_devices_and_open_files_are_written_to(tmp_path, device):
    out = tmp_path / "out"
    code = (
        "from pathlib import Path; from bakit.files import check_writable, write_file;"
        f"path = Path({device!r}); check_writable(path); write_file(path, b'report')"
    )
    with out.open("wb") as stdout:
        subprocess.run([sys.executable, "-c", code], check=True, stdout=stdout)
    assert out.read_bytes() == (b"" if device == "/dev/null" else b"report")
    assert names(tmp_path) == ["out"]


def test_the_longest_names_work(tmp_path):
    name = "a" * 255
    write_file(tmp_path / name, b"x")
    assert names(tmp_path) == [name]


def test_write_file_that_fails_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_file(path, b"old")

    def no_space(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_write_file_into_a_file_is_an_os_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        write_file(tmp_path / "file" / "x", b"")


def test_new_folder_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "out"
    with new_folder(path) as folder:
        (folder / "x").write_text("1")
        assert not path.exists()
    assert names(path) == ["x"]
    assert names(path.parent) == ["out"]


@pytest.fixture(params=[True, False], ids=["swapped", "in two steps"])
def swaps(request, monkeypatch):
    """Both ways to replace a folder; the system's own only where it has one."""
    if not request.param:
        monkeypatch.setattr("bakit.files._swap", lambda *_: False)
    elif sys.platform not in {"linux", "darwin"}:
        pytest.skip("no system call that swaps two folders")


@pytest.mark.usefixtures("swaps")
def test_new_folder_replaces_the_old_one_whole(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with new_folder(tmp_path / "out") as folder:
        (folder / "new").touch()
        assert names(tmp_path / "out") == ["old"]
    assert names(tmp_path / "out") == ["new"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_new_folder_leaves_the_old_one_untouched_on_error(tmp_path, kind):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("kept")

    def fail():
        with new_folder(tmp_path / "out") as folder:
            (folder / "half").touch()
            raise kind

    with pytest.raises(kind):
        fail()
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "old").read_text() == "kept"


@pytest.mark.usefixtures("swaps")
@pytest.mark.skipif(os.name == "nt", reason="Windows lets few make links")
def test_new_folder_takes_the_place_of_a_link_and_not_of_what_it_leads_to(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to("elsewhere")
    with new_folder(tmp_path / "out") as folder:
        (folder / "new").touch()
    assert names(tmp_path) == ["elsewhere", "out"]
    assert names(tmp_path / "out") == ["new"]
    assert names(tmp_path / "elsewhere") == []


@pytest.mark.skipif(sys.platform not in {"linux", "darwin"}, reason="no system call that swaps")
@pytest.mark.parametrize(("writer", "delete"), [(new_file, "unlink"), (new_folder, "rmdir")])
def test_a_signal_while_the_rest_is_removed_leaves_nothing(tmp_path, monkeypatch, writer, delete):
    """Once; as the old folder, which the new one has replaced, is removed file by file."""
    (tmp_path / "old" / "a").mkdir(parents=True)
    owner, work = (Path, getattr(Path, delete)) if delete == "unlink" else (os, os.rmdir)

    def interrupted(*words, **named):
        monkeypatch.setattr(owner, delete, work)
        raise KeyboardInterrupt

    def write():
        with writer(tmp_path / ("old" if writer is new_folder else "new")):
            monkeypatch.setattr(owner, delete, interrupted)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert names(tmp_path) in (["old"], ["new", "old"])


def test_there_is_no_moment_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("bakit.files._replace", lambda *_: pytest.fail("renamed in two steps"))
    for word in ("first", "second"):
        with new_folder(tmp_path / "out") as folder:
            (folder / word).touch()
    assert names(tmp_path / "out") == ["second"]


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps open files")
def test_new_folder_that_cannot_be_moved_keeps_the_old_one(tmp_path, monkeypatch):
    """The last step may fail too; the old folder must come back."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    rename = type(tmp_path).rename

    def fails_for_the_new(self, target):
        if (self / "new").exists():
            raise OSError(5, "Input/output error")
        return rename(self, target)

    def fail():
        with new_folder(tmp_path / "out") as folder:
            (folder / "new").touch()

    monkeypatch.setattr("bakit.files._swap", lambda *_: False)
    monkeypatch.setattr("pathlib.Path.rename", fails_for_the_new)
    with pytest.raises(OSError, match="Input/output"):
        fail()
    assert names(tmp_path / "out") == ["old"]
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX can be asked for a process")
def test_the_next_write_removes_what_a_killed_process_left(tmp_path):
    code = (
        "import os; from pathlib import Path; from bakit.files import new_file, new_folder;"
        f"here = Path({str(tmp_path)!r});"
        "file = new_file(here / 'a'); file.__enter__();"
        "folder = new_folder(here / 'b'); (folder.__enter__() / 'x').write_bytes(b'1');"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(names(tmp_path)) == 2
    with new_folder(tmp_path / "c"), new_folder(tmp_path / "d"):  # those of the living stay
        write_file(tmp_path / "e", b"")
    assert names(tmp_path) == ["c", "d", "e"]


# A full disk


def fill(error, monkeypatch, left):
    usage = shutil.disk_usage("/")._replace(free=left)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    return error


FULL = (
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EFBIG, "File too large"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    RuntimeError("ostream failed"),  # as OpenVINO and torch say it
    ValueError("cut off"),
)


def _write_and_fail(opened, error):
    with opened as temporary:
        place = temporary / "part" if temporary.is_dir() else temporary
        place.write_bytes(bytes(3_000_000))
        raise error


@pytest.mark.parametrize("error", FULL, ids=str)
@pytest.mark.parametrize("writer", [new_file, new_folder])
def test_a_full_disk_is_named_with_its_numbers(tmp_path, monkeypatch, writer, error):
    fill(error, monkeypatch, 1000)
    path = tmp_path / "out" / "result"
    with pytest.raises(OSError, match=r"3\.0 MB were written, 0\.0 MB are left") as raised:
        _write_and_fail(writer(path), error)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(path))
    assert list((tmp_path / "out").iterdir()) == []


def test_other_errors_stay_what_they_are_where_there_is_room(tmp_path, monkeypatch):
    other = fill(RuntimeError("other"), monkeypatch, 10**9)
    with pytest.raises(RuntimeError, match="other"), new_folder(tmp_path / "out"):
        raise other


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize(
    "words", ["phantoms --out out -n 3 --height 300", "export --target onnx --out out"]
)
def test_a_command_on_a_full_disk_prints_one_line_and_leaves_nothing(tmp_path, words):
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
        "from bakit.cli import main; main()"
    )
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run(
        [sys.executable, "-c", code, *words.split()],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2, run.stderr
    last = run.stderr.splitlines()[-1]
    assert last.startswith("bakit: out")
    assert "the disk or quota is full: " in last
    assert "Traceback" not in run.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
