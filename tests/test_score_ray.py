"""``--engine ray`` of score and evaluate on a cluster of three nodes, of which one is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
ROOT = Path(__file__).parents[1]


def test_a_cluster_gives_the_rows_of_one_machine_if_a_node_dies(exported, labelled, tmp_path):
    """In a process of its own: Ray starts threads and warns."""
    script = ROOT / "tests/benchmarks/score_ray.py"
    words = [exported("onnx", "fp32").root, labelled.folder, "--copies", "5", "--kill-after", "16"]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(script), *map(str, words)]
    for name in ("cv2", "msgspec", "random"):  # nothing is imported from the working folder
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=1200, env=environment,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (tmp_path / "ran").exists()
    found = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert (found["films"], found["killed"], found["different_rows"]) == (60, True, 0)
    assert found["same_evaluation"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:port"])
def test_a_cluster_that_is_not_there_is_one_line(refused, fake_bundle, labelled, address):
    words = ("--out", "o.csv", "--bundle", fake_bundle, "--engine", "ray", "--address", address)
    line = refused("score", labelled.folder, *words)
    assert f"no Ray cluster at {address} (" in line
