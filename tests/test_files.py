"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
import sys

import pytest

from bakit.files import new_folder, sha256, write_file


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


def test_write_file_is_readable_by_others(tmp_path):
    write_file(tmp_path / "a", b"")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


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
def test_there_is_no_moment_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("bakit.files._replace", lambda *_: pytest.fail("renamed in two steps"))
    for word in ("first", "second"):
        with new_folder(tmp_path / "out") as folder:
            (folder / word).touch()
    assert names(tmp_path / "out") == ["second"]


def test_new_folder_is_open_to_others(tmp_path):
    with new_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


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
