"""One runtime in many threads: the same answers as in one, and memory that stays.

    python tests/benchmarks/runtime_threads.py BUNDLE                       # 16 x 2,000
    python tests/benchmarks/runtime_threads.py BUNDLE --threads 1 --each 20000

On phantoms. Memory is the resident set, read every 500 predictions once the first tenth is done.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path

import cv2
import msgspec

from bakit.phantoms import make_phantom
from bakit.runtime import Runtime


def main() -> None:
    """Run and print one JSON object; exit with 1 if an answer differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--each", type=int, default=2000, help="predictions of each thread")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    work = []
    for seed in range(24):
        phantom = make_phantom(seed, height=160 + 10 * seed)
        work.append((cv2.imencode(".png", phantom.image)[1].tobytes(), "FM"[phantom.male]))
    with Runtime(given.bundle, 1) as runtime:
        runtime.warm_up()
        alone = [_answer(runtime, *item) for item in work]
        total = given.threads * given.each
        done, wrong, memory = [0] * given.threads, [0] * given.threads, []

        def many(number: int) -> None:
            for count in range(given.each):
                index = (number + count) % len(work)
                wrong[number] += _answer(runtime, *work[index]) != alone[index]
                done[number] += 1

        threads = [threading.Thread(target=many, args=(n,)) for n in range(given.threads)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        next_look = total // 10
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.05)
            if sum(done) >= next_look:
                memory.append(_rss_mb())
                next_look += 500
        for thread in threads:
            thread.join()
        memory.append(_rss_mb())
    found = {
        "threads": given.threads,
        "predictions": total,
        "different": sum(wrong),
        "seconds": round(time.perf_counter() - started, 1),
        "rss_mb_after_a_tenth": round(memory[0], 1),
        "rss_mb_at_the_end": round(memory[-1], 1),
        "rss_mb_most": round(max(memory), 1),
        "growth_percent": round(100 * (memory[-1] / memory[0] - 1), 2),
    }
    print(json.dumps(found, indent=2))
    raise SystemExit(1 if sum(wrong) else 0)


def _answer(runtime: Runtime, image: bytes, sex: str) -> bytes:
    prediction = runtime.predict(image, sex, allow_rejected=True)  # type: ignore[arg-type]
    return msgspec.structs.replace(prediction, stages_ms={}).to_json()


def _rss_mb() -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


if __name__ == "__main__":
    main()
