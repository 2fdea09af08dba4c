"""Phantoms: reproducible, labelled truthfully, and older-looking when they are older."""

from __future__ import annotations

import csv
import itertools
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bakit.errors import InputError
from bakit.phantoms import NUISANCES, Phantom, anatomy, make_phantom, write_phantoms
from bakit.phantoms.phantom import draw_labels, make_hand
from bakit.phantoms.render import bone_map
from bakit.phantoms.shapes import Camera

if TYPE_CHECKING:
    from pathlib import Path

AGES_MONTHS = (1, 6, 12, 18, 24, 36, 48, 60, 84, 108, 132, 144, 156, 168, 180, 192, 204, 216, 228)


def check_truth(phantom: Phantom) -> None:
    """Box and mask belong together and to the image."""
    rows, columns = phantom.image.shape
    box, mask = phantom.box, phantom.mask
    assert mask.shape == (rows, columns)
    assert mask.dtype == np.bool_
    assert 0 <= box.x0 < box.x1 <= columns
    assert 0 <= box.y0 < box.y1 <= rows
    inside = mask[box.y0 : box.y1, box.x0 : box.x1]
    assert inside.sum() == mask.sum() > 0
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


def test_same_seed_same_bytes() -> None:
    first, second = (make_phantom(7, height=160) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert np.array_equal(first.mask, second.mask)
    assert first.box == second.box
    assert first.age_months == second.age_months
    assert first.nuisances == second.nuisances


def test_drawing_one_phantom_does_not_change_another() -> None:
    expected = make_phantom(5, height=96).image.tobytes()
    np.random.default_rng(0).random(3)
    make_phantom(6, height=128)
    assert make_phantom(5, height=96).image.tobytes() == expected


def test_seeds_differ() -> None:
    images = [make_phantom(seed, height=96).image.tobytes() for seed in range(6)]
    assert len(set(images)) == len(images)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    age=st.floats(1, 228),
    male=st.booleans(),
    height=st.integers(96, 150),
    nuisances=st.sets(st.sampled_from(NUISANCES)),
)
def test_any_phantom_is_well_formed(
    seed: int, age: float, male: bool, height: int, nuisances: set[str]
) -> None:
    phantom = make_phantom(seed, age_months=age, male=male, height=height, nuisances=nuisances)
    check_truth(phantom)
    assert phantom.image.shape[0] == height
    assert phantom.age_months == age
    assert phantom.male == male
    assert set(phantom.nuisances) == nuisances
    # The hand reads as a hand: most of the height, and not the whole picture.
    assert 0.4 < phantom.box.height / height <= 1.0
    assert 0.08 < phantom.mask.mean() < 0.75


@pytest.mark.parametrize("seed", range(3))
def test_hand_is_brighter_than_air(seed: int) -> None:
    phantom = make_phantom(seed, height=128, nuisances=())
    assert phantom.image[phantom.mask].mean() > phantom.image[~phantom.mask].mean() + 25


def test_small_is_a_shrunken_large_one() -> None:
    small = make_phantom(3, height=160, nuisances=())
    large = make_phantom(3, height=640, nuisances=())
    shrunken = cv2.resize(large.image, small.image.shape[::-1], interpolation=cv2.INTER_AREA)
    likeness = np.corrcoef(shrunken.ravel(), small.image.ravel())[0, 1]
    assert likeness > 0.99
    for ours, theirs in zip(small.box, large.box, strict=True):
        assert abs(4 * ours - theirs) <= 12


def ossified(age, male, child=None):
    """Names of the centres that a film at this age shows."""
    appear = {name: anatomy.appear_months(name, male, child) for name in anatomy.APPEAR_MONTHS}
    return {name for name, months in appear.items() if age >= months}


@pytest.mark.parametrize("male", [True, False])
def test_ossified_centres_only_ever_appear(male: bool) -> None:
    shown = [ossified(age, male) for age in AGES_MONTHS]
    for younger, older in itertools.pairwise(shown):
        assert younger <= older
    assert not shown[0]
    assert shown[-1] == set(anatomy.APPEAR_MONTHS)


@pytest.mark.parametrize("seed", range(3))
def test_girl_is_ahead_of_boy(seed: int) -> None:
    child = anatomy.draw_individual(np.random.default_rng(seed))
    ahead = 0
    for age in AGES_MONTHS:
        boy, girl = (ossified(age, male, child) for male in (True, False))
        assert boy <= girl
        ahead += len(girl) - len(boy)
        for bone in ("radius", "ulna", "mc1", "mc3", "pp3", "mp3", "dp3"):
            boys, girls = (anatomy.maturity(bone, age, male, child) for male in (True, False))
            assert girls.fusion >= boys.fusion
            assert girls.breadth >= boys.breadth
    assert ahead > 10


def test_textbook_order() -> None:
    for sex in (0, 1):
        at = {name: months[sex] for name, months in anatomy.APPEAR_MONTHS.items()}
        order = ("capitate", "hamate", "radius", "triquetrum", "lunate", "ulna", "pisiform")
        assert list(order) == sorted(order, key=at.__getitem__)
    fused = {
        bone: next(a for a in range(1, 229) if anatomy.maturity(bone, a, True).fusion >= 1.0)
        for bone in ("dp3", "pp3", "mc3", "ulna", "radius")
    }
    assert list(fused) == sorted(fused, key=fused.__getitem__)


@pytest.mark.parametrize("male", [True, False])
def test_bone_grows_with_age(male: bool) -> None:
    """Bone in the beam, at a fixed scale, and the number of separate pieces follow the age."""
    areas, masses, pieces = [], [], []
    camera = Camera(2.0, 0.0, (150.0, 440.0), (560, 320))
    for age in (6, 24, 60, 108, 156, 204):
        hand = make_hand(2, age, male)
        bone = bone_map(hand, camera, (2, 3))
        areas.append(int((bone > 0.2).sum()))
        masses.append(float(bone.sum()))
        pieces.append(len(hand.tubes) + len(hand.pebbles))
    assert areas == sorted(areas)
    assert masses == sorted(masses)
    assert areas[-1] > 2.5 * areas[0]
    # Epiphyses and carpals are added, then epiphyses merge with their shafts.
    assert pieces[0] < pieces[1] < pieces[2]
    assert pieces[-1] < pieces[-2]


def test_age_is_visible_in_a_clean_picture() -> None:
    young, old = (
        make_phantom(4, age_months=age, male=True, height=320, nuisances=()) for age in (18, 204)
    )
    assert young.image.shape[0] == old.image.shape[0]
    # A plump hand fills its box better than a grown one.
    fill = [phantom.mask.sum() / phantom.box.area for phantom in (young, old)]
    assert fill[0] > fill[1]


@pytest.mark.parametrize("nuisance", NUISANCES)
def test_every_nuisance_changes_the_picture(nuisance: str) -> None:
    clean = make_phantom(11, age_months=100, male=True, height=128, nuisances=())
    spoilt = make_phantom(11, age_months=100, male=True, height=128, nuisances=[nuisance])
    assert clean.nuisances == ()
    assert spoilt.nuisances == (nuisance,)
    check_truth(spoilt)
    assert spoilt.image.tobytes() != clean.image.tobytes()


def test_inverted_is_the_negative() -> None:
    clean = make_phantom(1, height=96, nuisances=())
    negative = make_phantom(1, height=96, nuisances=["inverted"])
    difference = negative.image.astype(int) + clean.image.astype(int) - 255
    assert np.abs(difference).max() <= 1


def test_mirrored_is_the_mirror_image() -> None:
    clean = make_phantom(1, height=96, nuisances=())
    mirrored = make_phantom(1, height=96, nuisances=["mirrored"])
    assert np.array_equal(mirrored.image, clean.image[:, ::-1])
    assert np.array_equal(mirrored.mask, clean.mask[:, ::-1])
    columns = clean.image.shape[1]
    assert mirrored.box.x0 == columns - clean.box.x1


def test_low_contrast_is_lower() -> None:
    clean = make_phantom(2, height=96, nuisances=())
    flat = make_phantom(2, height=96, nuisances=["low_contrast"])
    assert flat.image.std() < 0.6 * clean.image.std()


@pytest.mark.parametrize("seed", range(2))
def test_sixteen_bit_has_more_than_eight(seed: int) -> None:
    phantom = make_phantom(seed, height=200, nuisances=["sixteen_bit"])
    assert phantom.image.dtype == np.uint16
    assert len(np.unique(phantom.image)) > 256


def test_drawn_nuisances_have_field_like_frequency() -> None:
    drawn = [draw_labels(seed)[2] for seed in range(1000)]
    share = {name: sum(name in names for names in drawn) / 1000 for name in NUISANCES}
    assert share["markers"] > 0.7
    assert 0.2 < share["collimation"] < 0.5
    assert 0.0 < share["inverted"] < 0.06
    assert 0.0 < share["sixteen_bit"] < 0.06
    assert make_phantom(3, height=96).nuisances == drawn[3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"age_months": 0.5}, "1 to 228"),
        ({"age_months": 229.0}, "1 to 228"),
        ({"age_months": float("nan")}, "1 to 228"),
        ({"height": 95}, "96 to 2000"),
        ({"height": 2001}, "96 to 2000"),
        ({"nuisances": ["rain"]}, "rain.*markers"),
        ({"nuisances": "tilt"}, "known are"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_phantom(**{"seed": 0, **arguments})  # type: ignore[arg-type]


def test_folder_round_trip(tmp_path: Path) -> None:
    done: list[tuple[object, ...]] = []
    out = write_phantoms(
        tmp_path / "set", 4, seed=20, height=96, on_progress=lambda *told: done.append(told)
    )
    assert done == [("drawing phantoms", count, 4) for count in (1, 2, 3, 4)]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    with (out / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["id", "boneage", "male", "x0", "y0", "x1", "y1"]
    assert len(rows) == 4
    for number, row in enumerate(rows, start=20):
        phantom = make_phantom(number, height=96)
        image = cv2.imread(str(out / "images" / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert np.array_equal(image, phantom.image)
        assert float(row["boneage"]) == phantom.age_months
        assert row["male"] == str(phantom.male)
        assert tuple(int(row[key]) for key in ("x0", "y0", "x1", "y1")) == phantom.box


def test_folder_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1"):
        write_phantoms(tmp_path / "none", 0)
    used = tmp_path / "used"
    used.mkdir()
    (used / "keep.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        write_phantoms(used, 1, height=96)
    with pytest.raises(InputError, match="not an empty folder"):
        write_phantoms(used / "keep.txt", 1, height=96)
    assert (used / "keep.txt").read_text() == "mine"


def test_folder_may_exist_empty_and_failure_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "set"
    out.mkdir()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantoms(out, 2, height=96, on_progress=stop)
    assert not any(out.iterdir())
    assert list(tmp_path.iterdir()) == [out]
    write_phantoms(out, 1, height=96)
    assert (out / "labels.csv").is_file()


def test_ages_resemble_the_training_set() -> None:
    """The drawn labels follow the RSNA spread: mean 127, deviation 41 months, 54 % boys."""
    drawn = [draw_labels(seed)[:2] for seed in range(3000)]
    ages = np.array([age for age, _ in drawn])
    assert abs(ages.mean() - 127) < 3
    assert abs(ages.std() - 41) < 3
    assert ages.min() >= 1
    assert ages.max() <= 228
    assert abs(np.mean([male for _, male in drawn]) - 0.54) < 0.03
