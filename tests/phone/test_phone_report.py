"""What the phone says becomes a report, or a part of one."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from bakit.bench.gate.check import Gate
from bakit.bench.phone import listener
from bakit.bench.phone.messages import Browser
from bakit.bench.render import render_html, render_markdown
from bakit.bench.report.document import read_report
from bakit.cli.bench import print_report
from bakit.errors import InputError, VerificationError
from bakit.hand.working import working_image
from bakit.image.read import decode
from bakit.runtime import Runtime


def test_what_the_phone_says_becomes_a_report_like_any_other(start, bundles, tmp_path, capsys):
    run = start(bundles)
    client = run.client()
    assert client.start().status == 200
    assert [plan["precision"] for plan in client.plan["bundles"]] == ["fp32", "int8"]
    for index, change in enumerate((0.0, 1.5)):
        client.measure(index, change)
    assert client.say("done").status == 204
    report, failures = run.result()
    assert failures == []
    floats, ints = report.bundles
    assert ints.provider == "onnxruntime-web wasm"
    assert ints.latency.stages["localize"].p50_ms == 3
    assert ints.latency.stages["regress"].p50_ms == 15
    assert ints.latency.stages["total"].p50_ms == 18
    assert (ints.latency.queries, ints.footprint.load_ms) == (2, 80)
    assert ints.drift.mean_abs_change_months == pytest.approx(1.5)
    assert floats.drift.mean_abs_change_months == 0
    assert not floats.drift.is_reference
    assert floats.drift.box_iou_mean == 1
    assert floats.latency.samples_ns("regress").tolist() == [10_000_000, 20_000_000]
    assert (report.data.folder, report.data.samples) == ("generated phantoms", 2)
    assert report.phone.device == "Pixel 9, Android 16"
    assert report.phone.threads == 1
    assert not report.partial
    assert report.phone.golden_max_difference_months == {floats.name: 0, ints.name: 0}
    report.write(tmp_path / "phone.json")
    assert read_report(tmp_path / "phone.json") == report
    no_drift = dict.fromkeys(field.name for field in dataclasses.fields(Gate))
    assert Gate(**{**no_drift, "max_p90_ms": 30.0}).check(report).passed
    print_report(report)
    printed = capsys.readouterr().out
    assert "not how well radiographs are read" in " ".join(printed.split())
    for words in ("Pixel 9, Android 16; Google Chrome 140.0.1", "wasm, 1 thread", "18.00"):
        assert words in printed


def test_the_phone_gets_this_machine_s_tensors_to_the_bit(start, bundles):
    run = start(bundles)
    client = run.client()
    client.start()
    plan = client.plan["bundles"][0]
    data = client.get("golden/0").body
    count, area, side = len(plan["golden_male"]), plan["working"] ** 2, plan["side"]
    assert len(data) == count * (8 * area + side**2)
    working = np.frombuffer(data, "<f4", count * area).reshape(count, -1)
    crops = np.frombuffer(data, np.uint8, count * side**2, count * area * 8)
    golden = bundles[0].manifest.golden[0]
    grey = decode(bundles[0].root / golden.path)
    expected = working_image(grey, plan["working"])
    assert np.array_equal(working[0], expected.ravel())
    with Runtime(bundles[0], 1) as runtime:
        pixels = runtime.preprocess(grey, golden.box)
        sent = crops[: side**2].astype(np.float32) / np.float32(255)
        assert np.array_equal(sent, pixels.ravel())
    assert len(client.get("crops/0/0").body) == 2 * side**2
    for role in ("localizer", "regressor"):
        path = bundles[1].root / bundles[1].artifact(role).path
        assert client.get(f"models/1/{role}").body == path.read_bytes()
    client.end()
    with pytest.raises(VerificationError, match="measured nothing: the test is over"):
        run.result()


def test_a_reloaded_page_starts_again_and_the_old_one_is_over(start, bundles):
    run = start(bundles)
    client = run.client()
    client.start()
    client.measure(0, change=9.0)
    assert client.start().status == 200  # the same browser: it has the cookie
    assert client.plan["run"] == 2
    assert client.say("alive", run=1).status == 409
    client.measure(0)
    client.measure(1)
    assert client.say("done").status == 204
    report = run.result().report
    assert report.bundles[0].drift.mean_abs_change_months == 0
    assert report.bundles[0].latency.queries == 2


def test_a_phone_that_goes_silent_leaves_a_part(start, bundles):
    run = start(bundles, idle_s=0.6)
    client = run.client()
    client.start()
    client.measure(0)
    client.say("loaded", bundle=1, load_ms=1, first_ms=1)
    report, failures = run.result()
    floats, ints = report.bundles
    assert (floats.error, floats.latency.queries) == (None, 2)
    assert (ints.error, ints.latency) == (report.phone.problem, None)
    assert report.partial
    assert failures == ["the phone did not finish: no message from the phone for 0.6 s"]


def test_ages_of_some_images_are_no_drift(start, bundles):
    run = start(bundles)
    client = run.client()
    client.start()
    client.measure(0)
    client.say("loaded", bundle=1, load_ms=1, first_ms=1)
    times = {"localize_ms": [2.0], "regress_ms": [10.0], "runs_per_sample": 7}
    client.say("latency", bundle=1, **times)
    client.say("ages", bundle=1, start=0, ages_months=[100.0])
    client.end()
    report = run.result().report
    assert report.bundles[0].drift is not None
    assert report.bundles[1].drift is None
    assert report.bundles[1].latency.queries == 1
    assert report.phone.runs_per_sample == 7


def test_golden_answers_beyond_their_tolerance_are_failures(start, bundles):
    run = start(bundles)
    client = run.client()
    client.start()
    tolerance = bundles[0].manifest.tolerance_months
    client.measure(0, golden_change=tolerance + 0.01)
    client.measure(1, golden_change=0.01)
    client.say("done")
    (failure,) = run.result().failures
    assert "golden ages differ by" in failure


def test_nobody_comes(start, bundles):
    with pytest.raises(VerificationError, match="no browser pressed Start"):
        start(bundles, wait_s=0.2).result()


@pytest.mark.parametrize(
    ("bind", "loopback"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.9", False),
    ],
)
def test_which_addresses_a_phone_can_reach(bind, loopback):
    assert listener.is_loopback(bind) == loopback


def test_addresses_are_written_as_browsers_want_them(monkeypatch):
    assert listener.page_url("https", "::1", 8443, "abc") == "https://[::1]:8443/abc/"
    assert listener.reachable_host("192.168.1.9") == "192.168.1.9"
    monkeypatch.setattr(listener, "network_address", lambda: "192.168.1.9")
    assert listener.reachable_host("0.0.0.0") == "192.168.1.9"
    monkeypatch.setattr(listener, "network_address", lambda: None)
    with pytest.raises(InputError, match="pass it to --bind"):
        listener.reachable_host("0.0.0.0")


SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 "
    "Version/18.6 Mobile/15E148 Safari/604.1"
)


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (SAFARI, "Safari 18.6"),
        (SAFARI.replace("Version/18.6", "CriOS/140.0.1"), "Chrome 140.0.1"),
        ("Mozilla/5.0 (Android 15; Mobile; rv:143.0) Gecko/143.0 Firefox/143.0", "Firefox 143.0"),
        (
            "Mozilla/5.0 (Linux) SamsungBrowser/28.0 Chrome/130.0 Safari/537.36",
            "Samsung Internet 28.0",
        ),
        ("", "unknown browser"),
    ],
)
def test_browsers_that_have_no_hints_are_known_by_their_agent(agent, name):
    browser = Browser(agent, "", "", "", None, True, 0.02)
    assert browser.name == name
    assert browser.device == (agent.partition("(")[2].partition(")")[0] or "unknown device")


def test_times_of_a_phone_are_not_compared_with_another_machine_s(start, bundles):
    run = start(bundles[:1])
    client = run.client()
    client.start()
    client.measure(0)
    client.say("done")
    report = run.result().report
    other = msgspec.structs.replace(report.phone, device="Pixel 6, Android 15")
    gate = Gate(max_p90_ms=30.0, max_p90_ratio=1.1)
    for phone in (other, None):
        baseline = msgspec.structs.replace(report, phone=phone)
        with pytest.raises(InputError, match=r"two machines.*Pixel 9"):
            gate.check(report, baseline)
    page, markdown = render_html(report), render_markdown(report)
    assert "Pixel 9, Android 16" in page
    assert "Pixel 9, Android 16" in markdown
