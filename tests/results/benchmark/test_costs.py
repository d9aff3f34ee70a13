"""The cost of an arm of several parts is the sum of theirs, and its calls are those of the whole arm."""

from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest, MeasurementRequest
from audit.planning.plan import window_of
from audit.results.benchmark.costs import costs_of
from audit.storage.run_directory import FIT_COSTS, RunDirectory

STEPS = 25


def costs(path, fits, *mitigations):
    config = AuditConfig.model_validate({"name": "costs", "mitigations": list(mitigations)})
    run = RunDirectory(path)
    run.create({"name": "costs"}, {})
    run.write_json(FIT_COSTS, fits)
    return costs_of(MeasurementRequest.of(config), DissectionRequest.of(config), run, STEPS)


def joint(**window):
    parts = [
        {"method": "mean_difference", "attribute": "gender", "images_per_group": 6} | window,
        {"method": "prompt", "attribute": "age", "blocks": ["up_blocks.0"]} | window,
        {"method": "mean_difference", "attribute": "skin_tone", "images_per_group": 6} | window,
    ]
    return {"name": "all", "method": "joint", "parts": parts}


def test_images_steps_and_time_of_the_parts_add_up(tmp_path):
    fits = {
        "all.gender": {"images": 64, "training_steps": 3, "seconds": 2.5},
        "all.skin_tone": {"images": 128, "seconds": 4.0},
    }
    plain = {"name": "alone", "method": "prompt", "attribute": "gender"}
    found = costs(tmp_path, fits, joint(), plain)
    assert {"all", "alone"} <= found.keys()
    both = found["all"]
    assert (both.fit_images, both.fit_steps, both.fit_seconds, both.search_images) == (192, 3, 6.5, 0)
    assert (both.calls, both.lens_images, found["alone"].fit_seconds) == (1.0, 0, None)


def test_calls_of_a_window_are_those_of_plain_sampling_if_no_part_needs_more(tmp_path):
    assert window_of((0.5, 1), STEPS).start == 12
    assert costs(tmp_path, {}, joint(window=[0.5, 1]))["all"].calls == 1.0
