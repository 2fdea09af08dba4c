"""The paper's Table 2 again: its rows, trainings that stand for them, and what is left of each."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import bakit.training.run as training
from bakit.cli import main
from bakit.cli.train import print_ablation
from bakit.data.labels import Sample, read_samples
from bakit.data.splits import Split, known_split, split
from bakit.errors import CheckpointError, InputError, MissingBackendError
from bakit.hand.unrolled import initial_weights
from bakit.hand.weights import Localizer
from bakit.model.checkpoint import Checkpoint
from bakit.model.recipes import get_recipe
from bakit.model.regressor import torchvision
from bakit.phantoms import write_phantoms
from bakit.settings import Architecture, Preprocessing, UnrolledSettings
from bakit.studies.ablate.report import APART, markdown, table_figure
from bakit.studies.ablate.run import ablate
from bakit.studies.ablate.runs import Result, plan_runs
from bakit.studies.ablate.table import TABLE_2, Ablation, Change, find_rows, full_row
from bakit.training.fitting import Hardware
from bakit.training.plan import TrainingPlan, limited, read_parts
from bakit.training.run import Progress

TINY = UnrolledSettings(size=32, features=4, labels=4, steps=2)
LOCALIZER = Localizer(TINY, initial_weights(TINY), "not trained")
ONE_THREAD = Hardware("cpu", threads=1)
PAIR = ("full-700", "no-sex-700")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """24 phantoms: 18 to train on, 4 for validation, 2 for test."""
    torch.set_num_threads(1)
    return write_phantoms(tmp_path_factory.mktemp("ablate") / "data", 24, height=96)


def make_base(data, **changes):
    plan = {
        "data": data,
        "recipe": get_recipe("paper", epochs=1, batch_size=6, pretrained="none"),
        "architecture": Architecture(head_layers=1),
        "preprocessing": Preprocessing(96),
        "localizer": LOCALIZER,
    }
    return TrainingPlan(**plan | changes)


def run(base, out, rows=PAIR, **options):
    options = {"image_size": 96, "hardware": ONE_THREAD, "workers": 1} | options
    return ablate(base, out, rows=rows, **options)


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """Two rows, really trained, and what was told meanwhile."""
    out = tmp_path_factory.mktemp("ablate") / "out"
    told = []
    ablation = run(
        make_base(data),
        out,
        say=told.append,
        on_progress=lambda step, *_: told.append(step),
        progress_of=lambda place: Progress(
            on_epoch=lambda epoch, _: told.append(f"{place}: epoch {epoch.epoch}")
        ),
    )
    return ablation, out, told


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done[1], tmp_path / "copy")


@pytest.fixture
def trained(monkeypatch):
    """Names of the trainings that are really done in one test."""
    names, fit = [], training.fit

    def counted(model, train, validation, recipe, folder, **options):
        names.append(folder.name)
        return fit(model, train, validation, recipe, folder, **options)

    monkeypatch.setattr(training, "fit", counted)
    return names


@pytest.fixture
def offline(monkeypatch):
    """Nothing can be downloaded."""

    def fail(*_, **__):
        message = "Name or service not known"
        raise OSError(message)

    monkeypatch.setattr(torchvision.models.MobileNet_V3_Large_Weights, "get_state_dict", fail)


# The table


def test_the_rows_are_the_paper_s():
    """Table 2 read off the paper; both of its data sets have the same six conditions."""
    assert [
        (
            row.sex,
            row.preprocess,
            row.pretrained,
            row.image_size,
            row.rsna_mae_months,
            row.additional_mae_months,
        )
        for row in TABLE_2
    ] == [
        (True, True, True, 224, 6.8, 5.7),
        (True, True, True, 500, 6.5, 5.6),
        (True, True, True, 700, 6.2, 5.1),
        (False, True, True, 700, 8.5, 6.0),
        (True, False, True, 700, 7.5, 6.2),
        (True, True, False, 700, 7.4, 5.9),
    ]
    assert [row.name for row in TABLE_2] == [
        "full-224",
        "full-500",
        "full-700",
        "no-sex-700",
        "no-preprocess-700",
        "no-pretrain-700",
    ]
    assert [full_row(row).name for row in TABLE_2[2:]] == ["full-700"] * 4


def test_rows_are_found_by_name_in_the_table_s_order():
    assert [row.name for row in find_rows(["no-sex-700", "full-224"])] == ["full-224", "no-sex-700"]
    assert find_rows() == list(TABLE_2)


def test_each_row_changes_only_what_the_table_says(data):
    base = make_base(data, recipe=get_recipe("paper"))
    runs = {run.name: run for run in plan_runs(base)}
    assert list(runs) == [row.name for row in TABLE_2]
    full = runs["full-700"].plan
    assert full == replace(base, preprocessing=Preprocessing(700))
    assert runs["full-224"].plan == replace(base, preprocessing=Preprocessing(224))
    assert runs["no-sex-700"].plan == replace(
        full, architecture=Architecture(head_layers=1, sex=False)
    )
    assert runs["no-preprocess-700"].plan == replace(
        full, preprocessing=Preprocessing(700, localize=False, equalize=False)
    )
    assert runs["no-pretrain-700"].plan == replace(
        full, recipe=get_recipe("paper", pretrained="none")
    )


def test_rows_that_are_the_same_are_one_run(data):
    def names(base):
        return {run.name: [row.name for row in run.rows] for run in plan_runs(base, 96)}

    sizes = ["full-224", "full-500", "full-700"]
    others = {"no-sex-96": ["no-sex-700"], "no-preprocess-96": ["no-preprocess-700"]}
    assert names(make_base(data)) == {"full-96": [*sizes, "no-pretrain-700"], **others}
    assert names(make_base(data, recipe=get_recipe("paper"))) == {
        "full-96": sizes,
        **others,
        "no-pretrain-96": ["no-pretrain-700"],
    }


# The subset


def people(count):
    generator = np.random.default_rng(5)
    ages = generator.uniform(0, 228, count)
    return [Sample(f"{n:04}", None, float(ages[n]), bool(n % 3)) for n in range(count)]


def test_a_limit_keeps_sexes_ages_and_the_other_parts(data):
    parts = Split(people(900), people(30), people(20))
    base = make_base(data, limit=90)
    few = limited(base, parts)

    assert (few.validation, few.test) == (parts.validation, parts.test)
    assert len(few.train) == 90
    assert set(few.train) < set(parts.train)
    assert sum(sample.male for sample in few.train) == 60
    ages, all_ages = ([sample.age_months for sample in part] for part in (few.train, parts.train))
    assert np.percentile(ages, [10, 50, 90]) == pytest.approx(
        np.percentile(all_ages, [10, 50, 90]), abs=6
    )
    assert limited(base, parts) == few
    assert limited(replace(base, split_seed=1), parts) != few
    assert limited(replace(base, seed=1), parts) == few
    assert limited(replace(base, limit=900), parts) == parts


# A whole ablation


def test_progress_is_reported(done):
    ablation, _, told = done
    full, no_sex = (ablation.rows[index].measured.test for index in (0, 3))
    assert told[:24] == ["checking images"] * 24
    assert told[24:] == [
        "18 training images, 4 for validation, 2 for test; up to 1 epochs per row",
        "1/2 full-96 (full-224, full-500, full-700, no-pretrain-700): to train",
        "2/2 no-sex-96 (no-sex-700): to train",
        "1/2 full-96: epoch 1",
        f"1/2 full-96: done: test MAE {full.mae_months:.2f} months on 2 images",
        "2/2 no-sex-96: epoch 1",
        f"2/2 no-sex-96: done: test MAE {no_sex.mae_months:.2f} months on 2 images",
    ]


def test_the_figures_are_those_of_the_checkpoints(done):
    ablation, out, _ = done
    # All rows that the two runs stand for.
    assert [row.name for row in ablation.rows] == [
        *(row.name for row in TABLE_2[:4]),
        "no-pretrain-700",
    ]
    assert {row.status for row in ablation.rows} == {"run"}
    errors = {}
    for row in ablation.rows:
        header = Checkpoint.read(out / "rows" / row.run / "best.safetensors").header
        assert header.architecture.sex == row.settings.sex == (row.run == "full-96")
        assert header.preprocessing.image_size == row.settings.image_size == 96
        metrics, measured = header.training.metrics, row.measured
        assert measured.test.samples == metrics["test"].samples == 2
        assert measured.test.mae_months == pytest.approx(metrics["test"].mae_months, abs=1e-4)
        low, high = measured.test.ci95_months
        assert low <= measured.test.mae_months <= high
        assert measured.validation.mae_months == metrics["validation"].mae_months
        assert (measured.epochs, measured.best_epoch) == (1, 1)
        assert measured.seconds > 0
        data = (out / "rows" / row.run / "result.json").read_bytes()
        errors[row.run] = msgspec.json.decode(data, type=Result).test_errors
    change = ablation.rows[3].change
    assert (change.full, change.paper_months) == ("full-700", 2.3)
    difference = np.mean(errors["no-sex-96"]) - np.mean(errors["full-96"])
    assert change.months == pytest.approx(difference)
    assert change.ci95_months[0] <= difference <= change.ci95_months[1]
    assert [row.change for row in ablation.rows[:3]] == [None] * 3
    # The same training as the full row here.
    assert ablation.rows[4].change == Change("full-700", 1.2)


def test_boxes_and_crops_are_shared(done):
    cache = done[1] / "cache"
    assert (cache / "boxes.json").is_file()
    assert len(list(cache.glob("*.npy"))) == 3  # one for each part
    assert not [path for path in done[1].rglob("cache") if path != cache]


def test_the_files_say_what_was_returned(done):
    ablation, out, _ = done
    assert msgspec.json.decode((out / "ablation.json").read_bytes(), type=Ablation) == ablation
    assert (out / "ablation.md").read_text() == markdown(ablation)
    assert (out / "ablation.png").read_bytes().startswith(b"\x89PNG")
    data = ablation.data
    assert (data.train, data.available, data.validation, data.test) == (18, 18, 4, 2)
    table = [line for line in markdown(ablation).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert len({len(row) for row in cells}) == 1
    named = {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}
    row, test = named["no-sex-700"], ablation.rows[3].measured.test
    assert (row["Sex"], row["Pre-process"], row["Pre-trained"]) == ("no", "yes", "yes")
    assert (row["Paper: MAE, RSNA"], row["Paper: MAE, additional"]) == ("8.5", "6.0")
    assert (row["Paper: size [px]"], row["Ours: size [px]"]) == ("700", "96")
    assert row["Paper: change"] == "+2.3"
    low, high = test.ci95_months
    assert row["Ours: test MAE"] == f"{test.mae_months:.2f} ({low:.2f} to {high:.2f})"
    assert "full-224, full-500, full-700, no-pretrain-700: one training" in markdown(ablation)


# Going on


def test_a_row_that_is_done_is_not_trained_again(done, data, copy, trained):
    assert run(make_base(data), copy, resume=True) == done[0]
    # Nor one that lost its result, which is in the checkpoint.
    (copy / "rows/no-sex-96/result.json").write_text("{")
    assert run(make_base(data), copy, resume=True) == done[0]
    assert run(make_base(data), copy, ["no-sex-700"], resume=True) == done[0]
    assert trained == []


def test_an_interrupted_ablation_goes_on(done, data, copy, trained, monkeypatch):
    shutil.rmtree(copy / "rows/no-sex-96")
    for name in ("ablation.json", "ablation.md", "ablation.png"):
        (copy / name).unlink()

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(make_base(data), copy, resume=True)
    assert not (copy / "ablation.json").exists()
    assert not (copy / "ablation.png").exists()

    again = run(make_base(data), copy, resume=True)

    assert trained == ["no-sex-96"]

    def timeless(ablation):
        rows = msgspec.to_builtins(ablation.rows)
        for row in rows:
            row["measured"]["seconds"] = 0
        return rows

    assert timeless(again) == timeless(done[0])


def test_a_row_that_fails_costs_no_other(data, copy, monkeypatch):
    def diverge(*_, **__):
        message = "the training diverged"
        raise InputError(message)

    monkeypatch.setattr("bakit.studies.ablate.runs.train", diverge)
    ablation = run(make_base(data), copy, ["no-preprocess-700", "full-224"], resume=True)
    rows = {row.name: row for row in ablation.rows}
    assert len(rows) == 6
    failed = rows["no-preprocess-700"]
    assert (failed.status, failed.reason) == ("not run", "the training diverged")
    assert (failed.measured, failed.change.months) == (None, None)
    assert rows["full-224"].status == "run"
    assert "no-preprocess-700: not run: the training diverged" in (copy / "ablation.md").read_text()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CheckpointError("x: not a checkpoint"), "x: not a checkpoint"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried\n to"), "CUDA out of memory. Tried"),
        (RuntimeError("not enough memory: you tried"), "not enough memory: you tried"),
        (MemoryError(), "out of memory"),
        (RuntimeError("shapes differ"), None),
        (ValueError("out of memory"), None),
    ],
)
def test_which_failures_cost_one_row_only(data, copy, monkeypatch, error, reason):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("bakit.studies.ablate.runs.train", fail)
    if reason is None:
        with pytest.raises(type(error)):
            run(make_base(data), copy, ["no-preprocess-700"], resume=True)
        return
    ablation = run(make_base(data), copy, ["no-preprocess-700"], resume=True)
    assert [row.reason for row in ablation.rows] == [None] * 4 + [reason, None]


@pytest.fixture
def half(data, tmp_path, trained):
    """An ablation of which one row is done, without an image; the image is mended meanwhile."""
    mended = shutil.copytree(data, tmp_path / "mended")
    image = min((mended / "images").iterdir())
    pixels = image.read_bytes()
    image.write_bytes(b"no image")
    base = make_base(mended, skip_unreadable=True)
    run(base, tmp_path / "half", ["full-700"])
    image.write_bytes(pixels)
    return base, tmp_path / "half", image


def test_a_row_begun_after_an_image_was_mended_is_refused(half, trained):
    """It would have a split of its own, and one row's test images would train another."""
    base, out, image = half
    plan = out / "rows/no-sex-96/plan.json"
    with pytest.raises(
        InputError, match=r"rows/no-sex-96: the split of this row differs.*0 images excluded"
    ):
        run(base, out, resume=True)
    assert trained == ["full-96"]
    assert not plan.exists()
    image.write_bytes(b"no image")
    ablation = run(base, out, resume=True)
    assert trained == ["full-96", "no-sex-96"]
    assert ablation.data.left_out == 1
    assert {row.status for row in ablation.rows} == {"run"}


def test_rows_begun_on_other_images_are_refused(half):
    """By an earlier version, say; whether or not their training is done."""
    base, out, _ = half
    runs = {run.name: run for run in plan_runs(base, 96)}
    read_parts(runs["no-sex-96"].plan, out / "rows/no-sex-96", resume=False)
    with pytest.raises(InputError, match="rows/no-sex-96: the split of this row differs"):
        run(base, out, ["full-700"], resume=True)


def test_a_checkpoint_of_other_images_is_refused(data, copy, monkeypatch):
    folder = copy / "rows/no-sex-96"
    (folder / "result.json").unlink()
    found = Checkpoint.read(folder / "best.safetensors")
    change = msgspec.structs.replace
    split = change(found.header.training.split, excluded_ids=("another",))
    header = change(found.header, training=change(found.header.training, split=split))
    other = replace(found, header=header)
    monkeypatch.setattr("bakit.studies.ablate.runs.train", lambda *_, **__: other)
    with pytest.raises(InputError, match="rows/no-sex-96: the split of this row differs"):
        run(make_base(data), copy, resume=True)


def test_a_stray_file_among_the_rows(done, data, copy):
    (copy / "rows/.DS_Store").touch()
    assert run(make_base(data), copy, resume=True) == done[0]


def test_no_picture_is_left_of_an_earlier_report(data, copy, monkeypatch):
    def fail(*_, **__):
        need = "drawing plots"
        raise MissingBackendError(need, "report")

    monkeypatch.setattr("bakit.studies.ablate.report.save_figures", fail)
    run(make_base(data), copy, resume=True)
    assert (copy / "ablation.json").is_file()
    assert not (copy / "ablation.png").exists()


# The command


def options(data, out, *more):
    given = {"--image-size": 96, "--epochs": 1, "--batch-size": 6, "--localizer": "student"}
    line = ["ablate", data, "--out", out, "--accelerator", "cpu", "--threads", 1, "--workers", 1]
    line += [word for pair in given.items() if pair[0] not in more for word in pair]
    return [str(word) for word in (*line, *more)]


def test_without_imagenet_weights_the_other_rows_run(data, tmp_path, offline):
    out = tmp_path / "out"
    line = options(data, out, "--rows", "no-sex-700, no-pretrain-700", "--limit", 12)

    result = CliRunner().invoke(main, line)

    assert result.exit_code == 0, result.output
    assert "12 training images, 4 for validation, 2 for test; up to 1 epochs" in result.stderr
    assert "1/2 no-sex-96 (no-sex-700): not run: the ImageNet weights could not" in result.stderr
    assert re.search(r"^[\d:]+ 2/2 no-pretrain-96: epoch 1/1: training MAE", result.stderr, re.M)
    assert "2/2 no-pretrain-96: done: test MAE" in result.stderr
    assert "no-sex-700: not run: the ImageNet weights could not be downloaded" in result.stdout
    ablation = msgspec.json.decode((out / "ablation.json").read_bytes(), type=Ablation)
    assert [(row.name, row.status) for row in ablation.rows] == [
        ("no-sex-700", "not run"),
        ("no-pretrain-700", "run"),
    ]
    assert "Name or service not known" in ablation.rows[0].reason
    assert "use --pretrained FILE, or train without them: --recipe" in ablation.rows[0].reason
    assert ablation.recipe == get_recipe("paper", epochs=1, batch_size=6)  # the default
    assert (ablation.localizer.size, ablation.margin, ablation.head_layers) == (64, 0, 2)
    assert "margin 0 %; localizer: method student" in (out / "ablation.md").read_text()
    assert [path.name for path in (out / "rows").iterdir()] == ["no-pretrain-96"]
    # A folder is known again by the whole split: none of its images passes for a new one.
    header = Checkpoint.read(out / "rows/no-pretrain-96/best.safetensors").header
    samples = read_samples(data)
    assert known_split(samples, header.training.split) == split(samples)
    assert (ablation.data.train, ablation.data.available) == (12, 18)
    assert header.ranges.samples == 12

    quiet = CliRunner().invoke(main, [*line, "--resume", "--json"])
    assert json.loads(quiet.stdout) == json.loads((out / "ablation.json").read_bytes())
    assert "2/2 no-pretrain-96 (no-pretrain-700): already done" in quiet.stderr


def test_no_result_at_all(data, tmp_path, monkeypatch):
    def diverge(*_, **__):
        message = "the training diverged"
        raise InputError(message)

    monkeypatch.setattr("bakit.studies.ablate.runs.train", diverge)
    line = options(data, tmp_path / "out", "--rows", "no-sex-700", "--pretrained", "none")
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 1
    assert "no-sex-700: not run: the training diverged" in result.stdout


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--rows", "full-96"], "unknown row of the paper's Table 2 'full-96'"),
        (["--image-size", "100"], "image size 100 is not possible"),
        (["--pretrained", "nowhere.pth"], "nowhere.pth: no such weights file"),
        (["--rows", "full-700"], "no row can be trained: the ImageNet weights could not be"),
        (["--limit", "3", "-q"], "3 training images are fewer than a batch of 6"),
        (["--limit", "0"], "--limit"),
        (["--epochs", "0"], "epochs 0 is not possible"),
    ],
)
def test_bad_options(refused, data, offline, more, text):
    assert text in refused(*options(data, "out", *more))


def test_bad_folders(refused, data, copy, tmp_path):
    none = ("--pretrained", "none")
    assert "not a data folder" in refused(*options(tmp_path, "out", *none))
    (tmp_path / "file").touch()
    assert "--out: Directory 'file' is a file" in refused(*options(data, "file", *none))
    line = refused(*options(data, copy, *none))
    assert line.endswith(
        "already holds an ablation; resume it with --resume, or choose another --out"
    )
    line = refused(*options(data, copy, *none, "--resume", "--seed", 3))
    assert "rows/full-96: started with other settings: " in line
    assert "seed was 0, now 3" in line
    line = refused(*options(data, copy, *none, "--resume", "--image-size", 128))
    assert "holds the row full-96, which these settings do not have" in line


def test_an_unreadable_image(refused, data, tmp_path):
    broken = shutil.copytree(data, tmp_path / "broken")
    next((broken / "images").iterdir()).write_bytes(b"no image")
    line = refused(*options(broken, "out", "--pretrained", "none", "-q"))
    assert "1 of 24 images cannot be used" in line


# What is shown


def shapes(figure):
    """Return the points of each shape that the picture shows, ``(N, 2)``."""
    found = {}
    for line in figure.axes[0].lines:
        if len(line.get_xdata()):  # those of the legend are empty
            found.setdefault(line.get_marker(), []).extend(line.get_xydata().tolist())
    return found


def test_the_picture_shows_the_errors(done):
    ablation = done[0]
    figure = table_figure(ablation)
    dots = shapes(figure)
    tests = [row.measured.test for row in ablation.rows]
    assert dots["o"] == [
        [months, pytest.approx(place - APART / 2)]
        for place, row in enumerate(ablation.rows)
        for months in (row.paper.rsna_mae_months, row.paper.additional_mae_months)
    ]
    assert dots["D"] == [
        [test.mae_months, pytest.approx(place + APART / 2)] for place, test in enumerate(tests)
    ]
    assert dots["None"] == [
        [months, pytest.approx(place + APART / 2)]
        for place, test in enumerate(tests)
        for months in test.ci95_months
    ]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"{row.name}\nours: 96 px" for row in ablation.rows]


def test_a_picture_of_rows_without_results(done):
    rows = tuple(
        msgspec.structs.replace(row, status="not run", reason="not yet", measured=None)
        for row in done[0].rows
    )
    figure = table_figure(msgspec.structs.replace(done[0], rows=rows))
    assert {shape: len(points) for shape, points in shapes(figure).items()} == {"o": 10}
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"{row.name}\nours: not run" for row in rows]


def test_names_do_not_command_the_terminal(done, capsys, tmp_path):
    change = msgspec.structs.replace
    ablation = change(done[0], data=change(done[0].data, folder="[red]\x1b[2J:smile:"))
    settings = change(ablation.rows[0].settings, pretrained="weights/[b]\x1bw.pth")
    row = change(ablation.rows[0], settings=settings, measured=None, reason="no \x1b]0;[/x]")
    print_ablation(change(ablation, rows=(row, *ablation.rows[1:])), tmp_path)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    for shown in (
        r"[red]\x1b[2J:smile:: 18 training",
        r"[b]\x1bw.pth",
        r"not run: no \x1b]0;[/x]",
    ):
        assert shown in text


def test_a_folder_whose_name_is_no_utf8(data, copy, tmp_path):
    name = os.fsdecode(b"gr\xf6sse")
    try:
        strange = shutil.copytree(data, tmp_path / name)
    except OSError:
        pytest.skip("the file system wants UTF-8")
    run(make_base(strange), copy, resume=True)
    document = json.loads((copy / "ablation.json").read_bytes())
    assert document["data"]["folder"] == "gr\ufffdsse"


def test_a_row_of_other_images_is_refused(tmp_path):
    from bakit.settings import SplitRecord
    from bakit.studies.ablate.runs import OtherImagesError, check_images

    shared = SplitRecord(0, ("7",), {"train": "a", "validation": "b", "test": "c"})
    check_images(tmp_path, shared, shared)
    with pytest.raises(OtherImagesError, match="differs from that of the other rows"):
        check_images(tmp_path, SplitRecord(0, (), {**shared.ids_sha256, "test": "d"}), shared)
