"""A location map on the workers: parts are kept and reused, and models without a network are refused."""

import json

import pytest
from typer.testing import CliRunner

from audit.analyses.location import LocationRequest
from audit.config.settings import AuditConfig
from audit.planning.plan import prompts_of
from ray_jobs.cli.commands import app
from ray_jobs.run import analyse, parts
from ray_jobs.run.analyse import AnalysisError, AnalysisSettings, place_of_parts, run_analysis
from ray_jobs.run.network import NetworkSettings
from ray_jobs.run.parts import WorkerPool


def settings_of(audit, **changes):
    plain = {
        "attributes": {"gender": ("female", "male")}, "prompts": prompts_of(audit.prompts, ()),
        "template": audit.prompts.template, "hookpoints": ("mid_block",), "images": 1, "batch": 1,
    }  # fmt: skip
    network = NetworkSettings(audit.model, audit.sampling, audit.lens.hookpoint)
    return AnalysisSettings("location", LocationRequest(**plain | changes), network, audit.judge, audit.attributes)


@pytest.fixture
def audit(tmp_path):
    prompts = {"occupations": ["doctor", "nurse"]}
    return AuditConfig(name="map", prompts=prompts, sampling={"steps": 3}, workers={"count": 1}, output=str(tmp_path))


def test_a_map_keeps_its_parts_and_a_larger_one_computes_only_what_is_new(audit, cluster, monkeypatch):
    settings = settings_of(audit)
    found = run_analysis(settings, audit.output, WorkerPool(audit.workers, cluster))
    assert [(place.hookpoint, place.sampled) for place in found.places] == [("mid_block", 4)]
    place = place_of_parts(settings, audit.output)
    assert sorted(path.name for path in (place / analyse.PARTS).iterdir()) == [
        "doctor.mid_block.safetensors", "nurse.mid_block.safetensors"
    ]  # fmt: skip
    assert json.loads((place / analyse.REQUEST_FILE).read_text())["analysis"] == "location"
    monkeypatch.setattr(parts, "run_on_pool", None)  # nothing is left to do
    assert run_analysis(settings, audit.output, None) == found
    assert place_of_parts(settings_of(audit, hookpoints=("mid_block", "up_blocks.0")), audit.output) == place
    assert place_of_parts(settings_of(audit, images=2), audit.output) != place
    part = place / analyse.PARTS / "nurse.mid_block.safetensors"
    part.write_bytes(part.read_bytes()[:-8])
    with pytest.raises(AnalysisError, match=r"nurse\.mid_block\.safetensors: expected a complete part.*run again"):
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


def test_a_map_is_printed_as_a_table_and_as_json(tmp_path, cluster):
    text = (
        f"name: map\nprompts: {{occupations: [doctor]}}\nsampling: {{steps: 3}}\noutput: {tmp_path}\n"
        "tracking: {enabled: false}\nworkers: {count: 1}\n"
    )
    options = ("--attribute", "gender", "--hookpoint", "mid_block", "--images", "1")
    answer = locate(tmp_path, text, *options, "--json")
    assert answer.exit_code == 0, answer.output
    [place] = json.loads(answer.stdout)["places"]
    assert (place["attribute"], place["hookpoint"], place["sampled"]) == ("gender", "mid_block", 2)
    table = locate(tmp_path, text, *options)
    assert "mid_block" in table.stdout
    assert "of 2 images counted" in table.stdout
