"""A finished location map is found again by what it belongs to, and by nothing else."""

import json
from dataclasses import replace

import pytest

from audit.analyses import stored_maps
from audit.analyses.stored_maps import Located, find_map, map_place, store_map
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.records.estimates import Estimate
from audit.records.located.location import Decision, LocationMap, PlaceShare
from audit.storage.run_directory import LOCATION

SHARE = Estimate(0.5, 0.2, 0.8, 10)


def located_of(**sections):
    # Other steps than those of the map that is bundled with the model.
    plain = {"name": "a", "sampling": {"steps": 4, **sections.pop("sampling", {})}}
    return Located.of(DissectionRequest.of(AuditConfig(**plain | sections)))


@pytest.fixture
def found():
    row = PlaceShare("gender", ("female", "male"), "mid_block", "counted", SHARE, (SHARE, None), 10, 12, None, 100, 50)
    decision = Decision("gender", ("mid_block",), (0.33, 0.67))
    return LocationMap("f", (row,), (decision,), 0.9, (8, 4), (3, 1), "ends", (0, 24), 25)


def test_a_stored_map_is_found_for_the_same_model_sampler_judge_and_attributes(tmp_path, found):
    located, output = located_of(), str(tmp_path)
    assert find_map(located, output) is None
    store_map(found, located, output)
    assert find_map(located, output) == found
    assert find_map(located_of(sampling={"batch": 3}), output) == found  # the batch changes no figure
    others = [
        {"model": {"compile": True}},
        {"sampling": {"steps": 5}},
        {"sampling": {"guidance": 4.0}},
        {"attributes": {"gender": ["female", "male"]}},
        {"judge": {"min_confidence": 0.7}},
        {"prompts": {"template": "a portrait of {a} {occupation}"}},
    ]
    assert [find_map(located_of(**sections), output) for sections in others] == [None] * len(others)


def test_a_later_map_replaces_an_earlier_one(tmp_path, found):
    located = located_of()
    store_map(found, located, str(tmp_path))
    later = replace(found, images=(6, 1))
    store_map(later, located, str(tmp_path))
    assert find_map(located, str(tmp_path)) == later


SPOILED = (
    lambda text: text[:50],
    lambda _text: "[]",
    lambda _text: json.dumps({"format_version": 1}),
    lambda text: text.replace('"carriers"', '"carryers"'),
    lambda text: text.replace('"format_version": 1', '"format_version": 2'),
)


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_file_that_is_no_map_is_refused_with_its_name(tmp_path, found, spoil):
    located = located_of()
    store_map(found, located, str(tmp_path))
    file = map_place(located, str(tmp_path)) / LOCATION
    file.write_text(spoil(file.read_text()))
    with pytest.raises(ValueError, match="expected a location map"):
        find_map(located, str(tmp_path))


def test_nobody_reads_the_weights_where_no_map_is_stored(tmp_path, monkeypatch):
    def read(_model):
        raise AssertionError("the weights were read")

    monkeypatch.setattr(stored_maps, "model_fingerprint", read)
    elsewhere = located_of(model={"source": "owner/name"}, judge={"source": "zero-shot"})
    assert find_map(elsewhere, str(tmp_path)) is None
