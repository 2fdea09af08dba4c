"""Measure the shipped model; write the tables from ``<!-- measured: NAME -->`` to ``<!-- end -->``.

    python docs/make_figures.py FOLDER [NAME ...]

FOLDER holds the labelled sets rsna299, official_test, masked and originals. Without names, all
tables are measured, which takes about an hour on one core.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DOCS = Path(__file__).parent
EXPORTS = (
    ("onnx", "--fp32"),
    ("onnx", "--int8"),
    ("openvino", "--fp32"),
    ("openvino", "--fp16"),
    ("openvino", "--int8"),
)
SETS = ("rsna299", "official_test", "masked", "originals")
TITLES = {
    "rsna299": "test part of the training set",
    "official_test": "the challenge's official test set",
    "masked": "background removed, half size",
    "originals": "untouched originals (labels of one reader)",
    "phantoms": "generated phantoms",
}
COSTLY = 1.0
"""Perturbations with a smaller rise of the MAE, in months, are in the plot only."""
SEXES = {"F": "girls", "M": "boys"}


def run(*arguments: object) -> str:
    """Run a command of bakit and return its stdout."""
    command = [sys.executable, "-m", "bakit", *map(str, arguments)]
    print("bakit", *arguments, file=sys.stderr)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def table(head: str, rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table; ``head`` names the columns, separated by ``|``."""
    columns = [name.strip() for name in head.split("|")]
    lines = [columns, ["---"] * len(columns), *(map(str, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def span(pair: Iterable[float]) -> str:
    """Return an interval as text."""
    low, high = pair
    return f"[{low:.2f}, {high:.2f}]"


def percent(share: float) -> str:
    """Return a share as text."""
    return f"{100 * share:.1f} %"


def accuracy(data: Path) -> dict[str, str]:
    """Evaluate all labelled sets; return the tables by set and by true age."""
    with tempfile.TemporaryDirectory(prefix="bakit-") as folder:
        phantoms = Path(folder) / "phantoms"
        run("phantoms", "--out", phantoms, "-n", 200, "--seed", 5000)
        folders = [*(data / name for name in SETS), phantoms]
        found = json.loads(run("evaluate", *folders, "--json"))["sets"]
    rows = []
    for item in found:
        covered = item["coverage"]["overall"]
        sexes = [
            (f"&nbsp; {SEXES[sex]}", part, item["coverage"]["by_sex"][sex])
            for sex, part in item["by_sex"].items()
        ]
        title = TITLES[item["data"]["folder"]]
        for name, errors, inside in [(title, item, covered), *sexes]:
            mae = f"{errors['mae_months']:.2f}"
            if errors is item:
                mae += f" {span(item['mae_ci95_months'])}"
            rows.append(
                (
                    name,
                    f"{errors['samples']:,}",
                    mae,
                    f"{errors['bias_months']:+.2f}",
                    percent(inside["share"]),
                    f"{inside['mean_width_months']:.1f}",
                )
            )
    head = "images | number | MAE, months | bias | inside the 90 % interval | its mean width"
    by_age = []
    for item in found[:2]:
        years = [
            f"{int(b['from_months'] // 12)}-{int(b['to_months'] // 12)}" for b in item["by_age"]
        ]
        by_age.append(
            table(
                " | ".join(["years", *years]),
                [
                    ["images", *(b["samples"] for b in item["by_age"])],
                    ["MAE, months", *(f"{b['mae_months']:.1f}" for b in item["by_age"])],
                ],
            )
        )
    first = found[0]
    limits = first["bland_altman"]
    words = (
        f"{100 * first['within_12_months']:.0f} % of the test part are within 12 months, "
        f"{100 * first['within_24_months']:.0f} % within 24; the largest error is "
        f"{abs(first['worst'][0]['error_months']):.0f} months.\n"
        f"Limits of agreement (Bland-Altman): {bland_altman(limits)}; on the official test set "
        f"{bland_altman(found[1]['bland_altman'])}."
    )
    ages = f"Test part:\n\n{by_age[0]}\n\nOfficial test set:\n\n{by_age[1]}"
    return {"accuracy": f"{table(head, rows)}\n\n{words}", "ages": ages}


def bland_altman(found: dict[str, Any]) -> str:
    """Return the limits of agreement as text."""
    return f"{found['lower_months']:+.1f} to {found['upper_months']:+.1f} months"


def stress(data: Path) -> dict[str, str]:
    """Measure all perturbations on the test part; return those that cost most."""
    folder = data / "rsna299"
    options = ("--limit", 300, "--plots", DOCS / "images", "--json")
    found = json.loads(run("stress", folder, *options))
    rows = []
    costly = [item for item in found["conditions"] if round(item["mae_rise_months"], 1) >= COSTLY]
    for item in (found["untouched"], *costly):
        low, high = item["mae_rise_ci95_months"]
        rise = f"{item['mae_rise_months']:+.1f} [{low:+.1f}, {high:+.1f}]"
        rows.append(
            (
                item["name"],
                f"{item['mae_months']:.1f}",
                "" if item["kind"] == "none" else rise,
                f"{item['mean_abs_change_months']:.1f}",
                *(percent(item[key]) for key in ("reviewed", "rejected")),
            )
        )
    head = "change | MAE | rise [95 % interval] | mean change | to review | rejected"
    return {"stress": table(head, rows)}


def bench(data: Path) -> dict[str, str]:
    """Bench the shipped bundles on the test part."""
    with tempfile.TemporaryDirectory(prefix="bakit-") as folder:
        for target, precision in EXPORTS:
            run("export", "--target", target, precision, "--out", folder)
        file = Path(folder) / "report.json"
        bundles = sorted(path for path in Path(folder).iterdir() if path.is_dir())
        options = ("--threads", 1, "--queries", 50, "--json", file)
        run("bench", *bundles, "--data", data / "rsna299", *options)
        report = json.loads(file.read_text())
    names = {"onnx": "ONNX", "openvino": "OpenVINO"}
    order = [f"{target}{precision.replace('--', '-')}" for target, precision in EXPORTS]
    rows = []
    for item in sorted(
        report["bundles"], key=lambda b: order.index(f"{b['target']}-{b['precision']}")
    ):
        drift, stages = item["drift"], item["latency"]["stages"]
        low, high = drift["drift_ci95_months"]
        is_float = drift["is_reference"]
        change = f"{drift['mean_abs_change_months']:.2f} / {drift['p99_abs_change_months']:.1f}"
        rows.append(
            (
                f"{names[item['target']]} {item['precision'].upper()}",
                f"{drift['bundle_mae_months']:.2f}",
                "reference"
                if is_float
                else f"{drift['drift_months']:+.3f} [{low:+.3f}, {high:+.3f}]",
                "" if is_float else change,
                f"{item['total_size_mb']:.1f} MB",
                *(f"{stages[name]['p50_ms']:.1f} ms" for name in ("localize", "regress", "total")),
            )
        )
    head = (
        " | MAE, months | drift [95 % interval] | mean / p99 change | models | localize p50 "
        "| regress p50 | total p50"
    )
    official = json.loads(run("evaluate", data / "official_test", "--json"))
    return {"bench": table(head, rows), "summary": summary(report["bundles"], official)}


def summary(bundles: Iterable[dict[str, Any]], official: dict[str, Any]) -> str:
    """Return the result in a few numbers, for the first screen of README."""
    found = {item["precision"]: item for item in bundles if item["target"] == "onnx"}
    both = [found["fp32"], found["int8"]]
    drift = found["int8"]["drift"]
    low, high = drift["drift_ci95_months"]
    times = (f"{item['latency']['stages']['total']['p50_ms']:.1f} ms" for item in both)
    images = f"RSNA challenge's official test set, {official['samples']} radiographs"
    rows = [
        (f"accuracy on the {images}", f"MAE {official['mae_months']:.2f} months"),
        (
            f"accuracy lost by INT8 on {drift['samples']:,} held-out radiographs",
            f"{drift['drift_months']:+.3f} months [{low:+.3f}, {high:+.3f}]",
        ),
        (
            "size of the models, FP32 and INT8",
            " and ".join(f"{item['total_size_mb']:.1f} MB" for item in both),
        ),
        ("median time of a prediction, FP32 and INT8", " and ".join(times)),
    ]
    return table(" | ", rows)


def start(_: Path) -> dict[str, str]:
    """Run the first commands of README and return what they print."""
    page = (DOCS.parent / "README.md").read_text()
    (block,) = re.findall(r"```sh\n(bakit export .*?)```", page, re.DOTALL)
    with tempfile.TemporaryDirectory(prefix="bakit-") as folder:
        printed = []
        for line in block.splitlines():
            words = [sys.executable, "-m", "bakit", *line.split()[1:]]
            print(line, file=sys.stderr)
            done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
            printed.append(done.stdout + done.stderr)
    return {"start": f"```text\n{''.join(printed)}```"}


MEASURED: dict[str, Callable[[Path], dict[str, str]]] = {
    "accuracy": accuracy,
    "stress": stress,
    "bench": bench,
    "start": start,
}
"""By name: the function that measures its tables."""


def write(found: dict[str, str]) -> None:
    """Replace the text between the marks of each table, in the one page that has them."""
    pages = [DOCS.parent / "README.md", *DOCS.glob("*.md")]
    for name, block in found.items():
        mark = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        marked = [page for page in pages if mark.search(page.read_text())]
        if len(marked) != 1:
            message = f"the mark of {name!r} is in {len(marked)} pages, not in one"
            raise SystemExit(message)
        text = marked[0].read_text()
        marked[0].write_text(mark.sub(lambda m, b=block: f"{m[1]}\n{b}\n\n{m[2]}", text))


def main() -> None:
    """Measure the named tables, or all."""
    data, *names = sys.argv[1:]
    for name in names or MEASURED:
        write(MEASURED[name](Path(data)))


if __name__ == "__main__":
    main()
