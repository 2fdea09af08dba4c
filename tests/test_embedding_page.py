"""The examples of docs/embedding.md, as they stand there."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "embedding.md").read_text("utf-8")


def example(name):
    """Return what an example of the page defines."""
    (code,) = re.findall(rf'```python title="{name}"\n(.*?)```', PAGE, re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(code, f"docs/embedding.md, {name}", "exec"), scope)
    return scope


def test_the_asyncio_example(exported, labelled):
    read_all = example("asyncio")["read_all"]
    films = [(sample.path, "M" if sample.male else "F") for sample in labelled.samples]
    bundle = exported("onnx", "fp32").root
    found = asyncio.run(read_all(bundle, films))
    again = asyncio.run(read_all(bundle, films))
    assert [item.age_months for item in found] == [item.age_months for item in again]
    assert len(found) == len(films)


@pytest.mark.filterwarnings("ignore:Using .httpx. with")
def test_the_fastapi_example(exported, labelled, monkeypatch):
    for library in ("fastapi", "httpx", "python_multipart"):
        pytest.importorskip(library, reason=f"needs {library}, which the extra dev installs")
    from fastapi.testclient import TestClient

    scope = example("fastapi")
    scope["BUNDLE"] = exported("onnx", "fp32").root
    image = labelled.samples[0].path.read_bytes()
    with TestClient(scope["app"]) as client:

        def post(film, **data):
            return client.post("/bone-age", data=data, files={"film": ("hand.png", film)})

        answer = post(image, sex="F")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        document = answer.json()
        assert document == json.loads(answer.text)
        assert {"age_months", "quality", "input_sha256", "bundle_sha256"} <= document.keys()
        assert post(image).status_code == 422, "no sex"
        assert post(image, sex="X").status_code == 422
        assert post(image, sex="F", other="1").status_code == 400, "more fields than the page reads"
        wrong = post(b"not an image", sex="F")
        assert wrong.status_code == 422
        assert "not a supported image" in wrong.json()["detail"]
        for sent in ({"sex": "F"}, {"film": "text"}):
            missing = client.post("/bone-age", data=sent)
            assert missing.status_code == 422
            assert "'film'" in missing.json()["detail"]
        monkeypatch.setitem(scope, "LARGEST", 10)
        assert post(image, sex="F").status_code == 413
