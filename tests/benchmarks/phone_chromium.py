"""The same bundles in headless Chromium, as on a phone, and in ONNX Runtime on this machine.

    python tests/benchmarks/phone_chromium.py bakit-bundles/*-onnx-fp32 bakit-bundles/*-onnx-int8
    python tests/benchmarks/phone_chromium.py BUNDLE... --threads 2 --pictures docs/images

The two take turns in rounds, since machines get slower and faster by the minute; both run the two
networks on the bundles' golden inputs, one after the other, with the same number of threads. The
time of a round is the median of its queries, and the figures are the medians over the rounds; the
ratio is taken within a round. Needs playwright, Chromium, and onnxruntime-web
(``bakit doctor``). With ``--pictures``, the page of the first round is photographed, light and
dark.
"""

from __future__ import annotations

import argparse
import queue
import shutil
import sys
import threading
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from playwright.sync_api import sync_playwright

from bakit.backends.ort import OrtSession
from bakit.bench.host import read_host
from bakit.bench.phone.listener import PhoneOptions
from bakit.bench.phone.run import run_phone
from bakit.bundle import Bundle
from bakit.hand.prepare import crop
from bakit.hand.working import working_image
from bakit.image.read import decode

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from bakit.bench.phone.listener import PageAddress
    from bakit.bench.phone.run import PhoneResult

STAGES = ("localize", "regress", "total")


def native_times(bundle: Bundle, queries: int, threads: int) -> dict[str, float]:
    """Median times in milliseconds of both networks and of their sum."""
    manifest = bundle.manifest
    inputs = []
    for golden in manifest.golden:
        grey = decode(bundle.root / golden.path)
        working = working_image(grey, manifest.localizer.size)[None, None]
        pixels = crop(grey, golden.box, golden.inverted, manifest.preprocessing)
        feeds = {"image": pixels[None, None]}
        if len(bundle.artifact("regressor").inputs) > 1:
            feeds["sex"] = np.array([[golden.sex == "M"]], np.float32)
        inputs.append(({"image": working}, feeds))
    sessions = [
        OrtSession(bundle.files.read(bundle.artifact(role).path), threads)
        for role in ("localizer", "regressor")
    ]
    times = []
    for count, pair in enumerate(islice(cycle(inputs), queries + 10)):
        clock = [time.perf_counter()]
        for session, feeds in zip(sessions, pair, strict=True):
            session.run(feeds)
            clock.append(time.perf_counter())
        if count >= 10:  # warm
            first, second = np.diff(clock) * 1000
            times.append((first, second, first + second))
    return dict(zip(STAGES, np.median(times, axis=0).tolist(), strict=True))


def browser_run(
    browser: Browser, bundles: list[Bundle], queries: int, threads: int, pictures: Path | None
) -> PhoneResult:
    """One run of ``bakit bench --phone``; both colour schemes are photographed."""
    opened: queue.Queue[PageAddress] = queue.Queue()
    results: list[Any] = []

    def serve() -> None:
        options = PhoneOptions(wait_s=60, idle_s=60)
        how = {"min_queries": queries, "min_duration_s": 0, "threads": threads, "limit": 16}
        results.append(run_phone(bundles, options=options, on_address=opened.put, **how))

    server = threading.Thread(target=serve)
    server.start()
    context = browser.new_context(
        viewport={"width": 390, "height": 844},
        device_scale_factor=1.5,
        is_mobile=True,
        has_touch=True,
        ignore_https_errors=True,
    )
    page = context.new_page()
    page.goto(opened.get(timeout=120).url)
    if pictures:
        photograph(page, pictures, "start")
    page.click("#start")
    if pictures:
        page.wait_for_selector("#detail:has-text('times each')", timeout=60_000)
        page.wait_for_timeout(1500)
        photograph(page, pictures, "running")
    page.wait_for_selector("#end:not([hidden])", timeout=300_000)
    if pictures:
        photograph(page, pictures, "done")
    server.join()
    context.close()
    return results[0]


def photograph(page: Page, folder: Path, name: str) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=folder / f"phone-{name}-{scheme}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--json", type=Path, help="Write the last round's report here.")
    given = parser.parse_args()
    bundles = [Bundle.read(path) for path in given.bundles]
    rows: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for number in range(given.rounds):
            native = [native_times(bundle, given.queries, given.threads) for bundle in bundles]
            pictures = given.pictures if number == 0 else None
            result = browser_run(browser, bundles, given.queries, given.threads, pictures)
            for here, there in zip(native, result.report.bundles, strict=True):
                for stage in STAGES:
                    pair = (here[stage], there.latency.stages[stage].p50_ms)
                    rows.setdefault((there.name, stage), []).append(pair)
            print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
        browser.close()
    phone, host = result.report.phone, read_host()
    print(f"{host.cpu}, {host.logical_cores} logical cores; {given.rounds} rounds of turns")
    print(f"{phone.browser}, {phone.runtime}; ONNX Runtime {host.versions['onnxruntime']}")
    print(f"threads in both: {given.threads}\n")
    print("| bundle | stage | ONNX Runtime p50, ms | Chromium p50, ms | ratio [range] |")
    print("| --- | --- | --- | --- | --- |")
    for (name, stage), pairs in rows.items():
        ratios = [there / here for here, there in pairs]
        here, there = (median(column) for column in zip(*pairs, strict=True))
        spread = f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        print(f"| {name} | {stage} | {here:.2f} | {there:.2f} | {spread} |")
    for bundle in result.report.bundles:
        change = bundle.drift.max_abs_change_months
        print(f"{bundle.name}: largest change of 16 ages {change:.4f} months")
    if given.json:
        result.report.write(given.json)


if __name__ == "__main__":
    main()
