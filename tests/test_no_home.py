"""A user without a home folder and without an account, as in a container with ``--user``."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest
from click.testing import CliRunner

from bakit import agent
from bakit.bench.phone.web import VARIABLE, find_runtime
from bakit.cli import main
from bakit.errors import MissingProgramError


@pytest.fixture(autouse=True)
def homeless(monkeypatch, tmp_path):
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE", VARIABLE):
        monkeypatch.delenv(name, raising=False)

    def unknown(_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr("bakit.bench.phone.web.PAGE", tmp_path)  # no install in the checkout
    (tmp_path / "package.json").write_text('{"dependencies": {"onnxruntime-web": "1.2.3"}}')


def test_the_browser_s_runtime_is_missing_and_home_is_named():
    with pytest.raises(
        MissingProgramError, match="or BAKIT_WEB_RUNTIME to the folder of an install"
    ):
        find_runtime()


def test_the_runtime_in_the_checkout_needs_no_home(tmp_path):
    package = tmp_path / "node_modules" / "onnxruntime-web"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"version": "1.2.3"}')
    assert find_runtime() == package / "dist"


def test_plots_need_no_folder_for_a_cache(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").touch()
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path / "file")}
    code = "from bakit.figures import new_figure; new_figure()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_doctor_prints_what_is_missing():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0, result.exc_info
    assert "no home folder: HOME is not set" in result.stdout


def test_a_bench_on_a_phone_costs_one_line(fake_bundle):
    result = CliRunner().invoke(main, ["bench", str(fake_bundle), "--phone"])
    assert not isinstance(result.exception, Exception), result.exc_info
    assert result.exit_code != 0
    assert len(result.stderr.splitlines()) == 1


def test_the_agent_costs_one_line():
    with pytest.raises(agent.AgentError, match="no home folder: HOME is not set"):
        agent.device_info()
