"""A location map on the workers: parts are kept and reused, and models without a network are refused."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from audit.analyses.location import LocationRequest, Question
from audit.analyses.stored_maps import Located, find_map, store_map
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.measure.inference.intervals import share_estimate
from audit.planning.plan import prompts_of
from audit.records.located.location import Decision, LocationMap, PlaceShare
from audit.records.located.places import Place
from ray_jobs.cli.commands import app
from ray_jobs.run import parts
from ray_jobs.run.inside import analyse
from ray_jobs.run.inside.analyse import AnalysisError, AnalysisSettings, place_of_parts, run_analysis
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import WorkerPool

GENDER = ("female", "male")


def settings_of(audit, *places, **changes):
    questions = tuple(Question("gender", GENDER, GENDER, Place.parse(place)) for place in places or ("mid_block",))
    plain = {
        "questions": questions, "prompts": prompts_of(audit.prompts, ()), "template": audit.prompts.template,
        "images": 1, "batch": 2,
    }  # fmt: skip
    network = NetworkSettings(audit.model, audit.sampling, audit.lens.hookpoint)
    return AnalysisSettings("location", LocationRequest(**plain | changes), network, audit.judge, audit.attributes)


@pytest.fixture
def audit(tmp_path):
    prompts = {"occupations": ["doctor", "nurse"]}
    return AuditConfig(name="map", prompts=prompts, sampling={"steps": 3}, workers={"count": 1}, output=str(tmp_path))


def test_counts_keep_their_parts_and_only_new_prompts_are_computed(audit, cluster, monkeypatch):
    settings = settings_of(audit)
    (found,) = run_analysis(settings, audit.output, WorkerPool(audit.workers, cluster))
    assert (str(found.question.place), found.sampled) == ("mid_block", (2, 2))
    place = place_of_parts(settings, audit.output)
    names = [f"{pair}.{settings.request.digest}.safetensors" for pair in ("doctor.nurse", "nurse.doctor")]
    assert sorted(path.name for path in (place / analyse.PARTS).iterdir()) == names
    assert json.loads((place / analyse.REQUEST_FILE).read_text())["analysis"] == "location"
    monkeypatch.setattr(parts, "run_on_pool", None)  # nothing is left to do
    assert run_analysis(settings, audit.output, None) == (found,)
    assert place_of_parts(settings_of(audit, "mid_block", "up_blocks.0"), audit.output) == place
    assert place_of_parts(settings_of(audit, images=2), audit.output) != place
    part = place / analyse.PARTS / names[1]
    part.write_bytes(part.read_bytes()[:-8])
    with pytest.raises(AnalysisError, match=r"nurse\.doctor\.\w+\.safetensors: expected a complete part.*run again"):
        run_analysis(settings, audit.output, None)


def test_parts_of_a_judge_file_that_was_replaced_are_not_reused(tmp_path):
    judge = tmp_path / "judge.safetensors"
    audit = AuditConfig(name="map", prompts={"occupations": ["doctor"]}, judge={"source": str(judge)})
    places = []
    for weights in (b"first", b"second"):
        judge.write_bytes(weights)
        places.append(place_of_parts(settings_of(audit), str(tmp_path)))
    assert places[0] != places[1]


def locate(tmp_path, text, *options):
    (tmp_path / "audit.yaml").write_text(text)
    return CliRunner().invoke(app, ["locate", str(tmp_path / "audit.yaml"), *options])


def test_a_model_without_a_network_is_a_mistake_of_the_user(tmp_path):
    answer = locate(tmp_path, "name: map\nmodel: {source: rendered}\n")
    assert answer.exit_code == 2
    assert "expected a model with a network, found 'rendered'" in answer.output


def test_an_attribute_that_is_not_audited_is_a_mistake_of_the_user(tmp_path):
    answer = locate(tmp_path, "name: map\n", "--attribute", "height")
    assert answer.exit_code == 2
    assert "expected an audited attribute (gender, age, skin_tone), found 'height'" in answer.output


def test_what_is_no_place_is_a_mistake_of_the_user(tmp_path):
    answer = locate(tmp_path, "name: map\n", "--place", "words:mid_block")
    assert answer.exit_code == 2
    assert "--place: expected a place that begins with output, skips, text" in answer.output


def test_a_map_is_printed_stored_and_then_warns_of_a_lens_elsewhere(tmp_path, cluster):
    """After three steps nothing follows one place, so that no group is decided anywhere."""
    text = (
        f"name: map\nprompts: {{occupations: [doctor]}}\nsampling: {{steps: 3}}\noutput: {tmp_path}\n"
        "attributes: {gender: [female, male]}\nlens: {attributes: [gender]}\n"
        "tracking: {enabled: false}\nworkers: {count: 1}\nmitigations: [{name: a, attribute: gender}]\n"
    )
    options = ("--hookpoint", "mid_block", "--place", "skips:down_blocks.0", "--images", "1")
    answer = locate(tmp_path, text, *options, "--json")
    assert answer.exit_code == 0, answer.output
    places = json.loads(answer.stdout)["places"]
    whole = [place for place in places if "@" not in place["place"]]
    assert [(row["attribute"], row["place"], row["stage"], row["sampled"]) for row in whole] == [
        ("gender", "mid_block", "counted", 2), ("gender", "skips:down_blocks.0", "counted", 2)
    ]  # fmt: skip
    table = locate(tmp_path, text, *options)
    assert "mid_block" in table.stdout
    assert "0 of 4 images changed (as it must be)" in table.stdout.replace("\n", " ")
    located = Located.of(DissectionRequest.of(AuditConfig.model_validate(yaml.safe_load(text))))
    assert find_map(located, str(tmp_path)) is None  # a part of the places is no map of the model
    store_map(map_with_nothing_at_the_bottleneck(), located, str(tmp_path))
    plan = CliRunner().invoke(app, ["plan", str(tmp_path / "audit.yaml")])
    assert "gender is not controllable at mid_block (share 0" in plan.output
    assert "it is decided at text:up_blocks.0." in plan.output


def map_with_nothing_at_the_bottleneck():
    share = share_estimate(0, 40)
    row = PlaceShare("gender", GENDER, "mid_block", "counted", share, (share, share), 40, 40, None, 1, 6)
    decision = Decision("gender", ("text:up_blocks.0",), None)
    return LocationMap("f", (row,), (decision,), 0.9, (8, 4), (3, 1), "ends", (0, 24), 3)
