"""The page in a real browser, with the real onnxruntime-web."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bakit.bench.phone import web
from bakit.bundle import Bundle
from bakit.errors import VerificationError
from bakit.phantoms import make_phantom
from bakit.runtime import Runtime
from bakit.types import Precision

COARSE = {
    "body": "export function timerStep() { return 1; }",
    "headers": {
        "Content-Type": "text/javascript",
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Resource-Policy": "same-origin",
    },
}


@pytest.fixture
def phone(chromium):
    """Return what opens an address as a phone does; ``complaints`` is what its console said."""
    contexts = []

    def visit(url, *, coarse=False):
        context = chromium.new_context(
            viewport={"width": 390, "height": 844},
            is_mobile=True,
            has_touch=True,
            ignore_https_errors=True,  # a person taps through the warning
        )
        contexts.append(context)
        if coarse:
            context.route("**/clock.mjs", lambda route: route.fulfill(**COARSE))
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda said: page.complaints.append(said.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture
def begin_https(begin, installed, monkeypatch):
    """Return what starts a run that a browser can open."""
    monkeypatch.setenv(web.VARIABLE, str(installed))
    return lambda *arguments, **more: begin(*arguments, adb=False, **more)


def finished(page):
    """Press the button, wait for the end and return its title and reason."""
    page.click("#start")
    page.wait_for_selector("#end:not([hidden])", timeout=300_000)
    return page.inner_text("#verdict"), page.inner_text("#reason")


def ages_here(bundle, rows):
    """What this machine says of the drift set."""
    with Runtime(bundle, 1) as runtime:
        ages = []
        for row in rows:
            image = make_phantom(int(row.id), height=320).image
            sex = "M" if make_phantom(int(row.id), height=320).male else "F"
            ages.append(runtime.predict(image, sex).age_months)
    return ages


def test_a_browser_benches_fp32_and_int8(begin_https, bundles, phone):
    run = begin_https(bundles, limit=4, min_queries=4)
    page = phone(run.page().url)
    assert page.evaluate("self.crossOriginIsolated")
    title, reason = finished(page)
    assert (title, page.complaints) == ("Done", []), reason
    assert page.locator(".card").count() == 2
    assert page.inner_text("[data-field=files]") == "intact"
    report, failures = run.result()
    assert failures == []
    assert not report.partial
    assert report.phone.isolated
    assert report.phone.provider == "wasm"
    assert report.phone.threads == 1
    assert report.phone.browser.startswith("Chromium ")
    for bundle, here in zip(report.bundles, bundles, strict=True):
        assert bundle.latency.queries == 4
        times = bundle.latency.stages
        assert 0 < times["localize"].p50_ms < times["total"].p50_ms
        assert bundle.footprint.load_ms > 0
        ages = [row.bundle_months for row in bundle.drift.rows]
        # FP32 differs by the order of sums; an INT8 value may round to its neighbour, which moved
        # one of 300 radiographs by 1.1 months.
        tolerance = 0.05 if bundle.precision is Precision.FP32 else 2.0
        assert ages == pytest.approx(ages_here(here, bundle.drift.rows), abs=tolerance)
        assert report.phone.golden_max_difference_months[bundle.name] < tolerance
        assert len({round(age, 1) for age in ages}) > 1


def test_two_threads_and_the_student(begin_https, phone, shipped):
    run = begin_https([shipped], threads=2, limit=3)
    page = phone(run.page().url)
    title, reason = finished(page)
    assert (title, page.complaints) == ("Done", []), reason
    report, failures = run.result()
    assert failures == []
    assert report.phone.threads == 2
    (only,) = report.bundles
    ages = [row.bundle_months for row in only.drift.rows]
    assert ages == pytest.approx(ages_here(shipped, only.drift.rows), abs=0.05)
    assert report.phone.golden_max_difference_localizer[shipped.name] < 1e-4


def test_a_wrong_token_and_a_second_browser_see_nothing(begin_https, bundles, phone):
    run = begin_https(bundles[:1], min_queries=20)
    url = run.page().url
    first = phone(url)
    assert "no valid token" in phone(url[:-3] + "/").inner_text("body")
    first.click("#start")
    first.wait_for_selector("#run:not([hidden])")
    assert phone(url).inner_text("h1") == "This address is in use by another browser"
    first.wait_for_selector("#end:not([hidden])", timeout=300_000)
    assert first.inner_text("#verdict") == "Done"
    assert run.result().failures == []


def test_a_page_closed_half_way_leaves_a_part(begin_https, bundles, phone):
    run = begin_https(bundles, min_queries=300, idle_s=6)
    page = phone(run.page().url)
    page.click("#start")
    page.wait_for_selector("#detail:has-text('queries each')", timeout=300_000)
    page.close()
    report, failures = run.result()
    assert "did not finish" in failures[0]
    assert report.partial
    assert 0 < report.bundles[0].latency.queries < 300
    assert [bundle.drift for bundle in report.bundles] == [None, None]


def test_a_changed_model_byte_is_refused(begin_https, bundles, phone, tmp_path):
    copy = Path(shutil.copytree(bundles[0].root, tmp_path / "copy"))
    run = begin_https([copy])
    page = phone(run.page().url)
    model = copy / Bundle.read(copy).artifact("regressor").path
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    title, reason = finished(page)
    assert title == "Stopped"
    assert "the regressor has changed since export" in reason
    with pytest.raises(VerificationError, match="the regressor has changed since export"):
        run.result()


def test_a_browser_without_a_gpu_says_so(begin_https, bundles, phone):
    run = begin_https(bundles[:1], provider="webgpu")
    page = phone(run.page().url)
    if page.evaluate("navigator.gpu?.requestAdapter().then((adapter) => adapter && 1)"):
        pytest.skip("this browser has a GPU")
    assert "use --provider wasm" in finished(page)[1]
    with pytest.raises(VerificationError, match="does not support WebGPU"):
        run.result()


def test_a_coarse_clock_makes_a_time_the_mean_of_several_runs(begin_https, bundles, phone):
    run = begin_https(bundles[:1])
    page = phone(run.page().url, coarse=True)
    title, reason = finished(page)
    assert (title, page.complaints) == ("Done", []), reason
    report, failures = run.result()
    assert failures == []
    assert report.phone.timer_step_ms == 1
    assert report.phone.runs_per_sample > 1
    # The step is at most 2 % of what the warm-up took; warm runs may be several times as fast.
    fastest = min(
        report.bundles[0].latency.stages[stage].p50_ms for stage in ("localize", "regress")
    )
    assert fastest * report.phone.runs_per_sample > 10
    assert report.bundles[0].latency.queries == 2
