"""The report says which features of a lens can be trusted, and what an older lens lacks."""

from dataclasses import replace

import pytest

from audit.records.estimates import Estimate
from audit.records.inside.honesty import Curve, FeatureHonesty, GroupHonesty, LensHonesty, Shared
from reports.export.audit_json import read_audit_json, to_json
from reports.export.audit_schema import first_mistake
from reports.figures.honesty import FAILS, PASSES, honesty_part
from reports.figures.pictures import Pictures
from reports.frames import result_frames
from reports.html import render
from reports.index.story import story_of


def curve(*values):
    random = tuple(0.9 - 0.01 * place for place in range(len(values)))
    return Curve(values, random, tuple(v - 0.02 for v in random), tuple(v + 0.02 for v in random), (0.87, 0.91))


def honesty_of(result):
    """Figures of the first two features of each gender: one passes, one fails."""
    groups = []
    for group in ("female", "male"):
        own = [row for row in result.lens["features"] if (row["attribute"], row["group"]) == ("gender", group)]
        good = FeatureHonesty(
            own[0]["latent"], own[0]["score"], Estimate(0.81, 0.75, 0.86, 380), 10, 10, map=((0.0, 1.0), (0.5, 0.25))
        )
        shared = (Shared("skin_tone", "dark", 1.5),)
        poor = FeatureHonesty(own[1]["latent"], own[1]["score"], Estimate(0.52, 0.47, 0.57, 190), 3, 10, shared)
        unseen = FeatureHonesty(own[2]["latent"], own[2]["score"], None, 0, 10)
        groups.append(
            GroupHonesty(
                "gender",
                group,
                190,
                (good, poor, unseen),
                (2, 1),
                (0.6, 0.7),
                curve(0.95, 0.8, 0.7, 0.6),
                curve(0.9, 0.89, 0.89, 0.88),
                0.9,
            )
        )
    return LensHonesty(tuple(groups), 384, 1024, 5, 20, 10, {"age": "3 images show old, at least 8 are needed"})


@pytest.fixture(scope="module")
def checked(result):
    return replace(result, lens={**result.lens, "honesty": honesty_of(result).as_data()})


def test_the_rules_of_a_verdict(result):
    good, poor, unseen = honesty_of(result).groups[0].features
    assert good.failures == ()
    assert poor.failures == ("no better than chance", "not stable", "stronger for skin_tone: dark")
    assert unseen.failures == ("not stable",)
    assert replace(good, auc=Estimate(0.3, 0.2, 0.4, 9)).failures == ("less active in its group",)
    assert replace(good, chosen=5).failures == ()  # half of the halves suffice


def test_plain_data_is_read_back(result):
    honesty = honesty_of(result)
    data = honesty.as_data()
    assert LensHonesty.of_data(data) == honesty
    assert data["groups"][0]["features"][1]["failures"][0] == "no better than chance"
    assert honesty.summary()["gender"] == {
        "features": 6, "auc": pytest.approx(0.665), "kept": [1, 2], "shared": 0, "failing": 4
    }  # fmt: skip


def test_audit_json_accepts_the_figures_and_refuses_others(checked, store_run, tmp_path):
    run = store_run(tmp_path / checked.run_id, checked)
    assert LensHonesty.of_data(read_audit_json(run).lens["honesty"]) == honesty_of(checked)
    data = to_json(checked)
    data["lens"]["honesty"]["groups"][0]["features"][0]["auc"]["value"] = 7
    assert "honesty" in first_mistake(data)


def test_each_feature_has_a_verdict_and_each_attribute_its_figures_in_words(checked):
    part = honesty_part(story_of(checked))
    assert part.summary == "4 of 6 features fail a check."
    gender = part.attributes["gender"]
    words = " ".join(gender.lines)
    assert "female 2 of 3 (mean AUC 0.665)" in words
    assert "female 1 to 2 of 3" in words
    assert "No stronger than random features: female (insertion), male (insertion)." in words
    rows = gender.tables[0].rows
    assert rows[0][-1] == PASSES
    assert rows[1][-1] == f"{FAILS}: no better than chance, not stable, stronger for skin tone: dark"
    assert rows[2][2:5] == ("–", "–", "0 of 10")
    assert part.left_out == ("age: 3 images show old, at least 8 are needed",)


def test_the_page_shows_maps_curves_and_verdicts(checked):
    page = render(checked, Pictures({}, {}))
    assert "4 of 6 features fail a check." in page
    assert 'class="map"' in page
    assert "curves-gender-female-title" in page
    assert "✗ fails: no better than chance" in page
    assert "Not checked: age: 3 images show old" in page


def test_an_older_lens_says_what_is_missing_and_how_to_get_it(result, page_text):
    assert honesty_part(story_of(result)) is None
    assert "difflens-audit dissect CONFIG --honesty" in page_text
    assert "✗ fails" not in page_text


def test_a_frame_has_all_features_with_figures_where_they_exist(checked, result):
    frame = result_frames(checked)["features"]
    assert len(frame) == len(result.lens["features"])
    first, second = frame.iloc[0], frame.iloc[1]
    assert (first["auc"], first["n"], first["chosen"], first["fails"]) == (0.81, 380, 1.0, "")
    assert second["shared"] == "skin_tone: dark"
    assert "not stable" in second["fails"]
    assert frame["auc"].notna().sum() == 4
    assert result_frames(result)["features"]["fails"].isna().all()
