"""The study of false differences between models: its truth is that of the worlds, its decisions are the product's."""

import numpy as np
import pytest

from audit.calibration.world import World
from audit.results.models.difference_tests import model_differences
from audit.results.models.places import ModelRun
from benchmarks.false_differences import PROMPTS, audited, drawn, error_of, mirrored, true_difference, worlds_of


@pytest.fixture(scope="module")
def differences():
    bundled, _, altered = worlds_of("planted")
    models = [ModelRun(str(n), drawn(world, 400, [1, n])) for n, world in enumerate((bundled, bundled, altered))]
    return model_differences(models)


def test_true_differences_are_those_of_the_tables(differences):
    true = {
        (d.first, d.second, d.attribute, d.prompt_id, d.group): true_difference(d, worlds_of("planted"))
        for d in differences
    }
    assert true["0", "2", "gender", "nurse", "female"] == pytest.approx(0.8)
    assert true["0", "2", "age", "painter", "young"] == pytest.approx(-0.46)
    assert {round(value, 9) for key, value in true.items() if key[2] == "skin_tone" or key[:2] == ("0", "1")} == {0.0}


def test_with_many_images_the_planted_differences_are_found_and_no_others(differences):
    for d in differences:
        if d.established:
            assert abs(true_difference(d, worlds_of("planted"))) > 1e-9
    found = {(d.attribute, d.prompt_id) for d in differences if d.established and d.first == "0"}
    assert found >= {
        ("gender", None), ("age", None), ("gender", "nurse"), ("gender", "firefighter"), ("gender", "mechanic"),
        ("age", "painter"),
    }  # fmt: skip


def test_a_mirrored_world_has_other_shares_and_equal_discrepancies():
    bundled, flipped = World.bundled(), mirrored(World.bundled())
    for prompt in PROMPTS:
        first, second = bundled.share(prompt, "gender"), flipped.share(prompt, "gender")
        assert (first["female"], first["male"]) == pytest.approx((second["male"], second["female"]))
        assert bundled.share(prompt, "age") == pytest.approx(flipped.share(prompt, "age"))


def test_an_audit_depends_only_on_its_seed():
    first, again, other = (audited("equal", 8, seed) for seed in (3, 3, 4))
    assert first == again
    assert first.planted == other.planted == {"discrepancy": 0, "share": 0}


def test_images_follow_the_planted_shares():
    run = drawn(World.bundled(), 4000, [7])
    images = run.images["baseline", "nurse"]
    assert np.mean(images.columns["p_gender_female"]) == pytest.approx(0.9, abs=0.02)


def test_the_error_has_its_exact_interval():
    text, low = error_of(0, 100)
    assert text.replace("\N{NO-BREAK SPACE}", " ") == "0.0 % [0.0 %, 3.6 %]"
    assert low == 0.0
    assert error_of(20, 100)[1] > 0.05
