"""The location maps that ship with the calibration models are found, and that of the first agrees with the trial."""

from pathlib import Path

import pytest

from audit.analyses.stored_maps import Located, find_map
from audit.config.file import read_config
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.records.located.places import Place


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    located = Located.of(DissectionRequest.of(AuditConfig(name="a")))
    shipped = find_map(located, str(tmp_path_factory.mktemp("empty")))
    assert shipped is not None, "made by: difflens-audit locate configs/occupations.yaml; store it in weights/maps"
    return shipped


def share(found, attribute, place):
    return found.share_at(attribute, Place.parse(place)).share.value


def test_gender_is_decided_at_the_bottleneck_and_age_and_skin_tone_by_the_text_after_it(found):
    assert share(found, "gender", "mid_block") >= 0.9
    for attribute in ("age", "skin_tone"):
        assert share(found, attribute, "text:up_blocks.0") >= 0.9
        assert share(found, attribute, "mid_block") <= 0.2
    assert {one.attribute: one.place for one in found.decisions} == {
        "gender": "text:mid_block", "age": "text:up_blocks.0", "skin_tone": "text:up_blocks.0"
    }  # fmt: skip


def test_its_controls_hold(found):
    assert found.same_run[0] == 0
    assert found.same_run[1] > 0
    for decision in found.decisions:
        row = found.share_at(decision.attribute, Place.parse(decision.place))
        assert row.other_prompt.value <= 0.1


def test_the_wide_model_ships_its_map_too(tmp_path):
    located = Located.of(DissectionRequest.of(read_config(Path("configs/wide.yaml"))))
    shipped = find_map(located, str(tmp_path))
    assert shipped is not None, "made by: difflens-audit locate configs/wide.yaml; store it in weights/wide/maps"
    assert share(shipped, "gender", "transformer_blocks.1") >= 0.9
    assert share(shipped, "skin_tone", "text:transformer_blocks.1") >= 0.9
    assert shipped.same_run[0] == 0
    assert shipped.same_run[1] > 0
