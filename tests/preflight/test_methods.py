"""Methods that a model or its settings rule out are refused before any image is sampled."""

import shutil
from functools import cache

import pytest
import yaml
from diffusers import UNet2DConditionModel
from typer.testing import CliRunner

from audit.config.settings import AuditConfig
from audit.preflight.readiness import check_ready
from benchmarks.tiny_families import FAMILIES
from ray_jobs.cli.commands import app
from ray_jobs.run import inputs

EFA = {"name": "efa", "method": "entanglement_free_attention", "attribute": "gender"}
INSIDE = [
    EFA,
    EFA | {"layers": ["mid_block"]},
    {"name": "gated", "method": "gated_cross_attention", "attribute": "gender"},
    {"name": "tuned", "method": "finetuning", "attribute": "gender", "networks": ["text_encoder", "unet"]},
]
OUTSIDE = [
    {"name": "tuned", "method": "finetuning", "attribute": "gender"},
    {"name": "vectors", "method": "latent_direction", "attribute": "gender"},
    {"name": "weights", "method": "uce", "attribute": "gender"},
    {"name": "means", "method": "mean_difference", "attribute": "gender"},
]


INSIDE_TRANSFORMER = {"hookpoints": ["transformer_blocks.0"]}
TRAINED = {
    "latent_direction": INSIDE_TRANSFORMER,
    "latent_editing": INSIDE_TRANSFORMER | {"reverse_step": "symmetric"},
    "entanglement_free_attention": {"layers": ["transformer_blocks.0"]},
    "finetuning": {"networks": ["text_encoder", "denoiser"]},
}
ON_UNET = {
    "latent_direction": {"hookpoints": ["mid_block"]},
    "latent_editing": {"hookpoints": ["mid_block"]},
    "entanglement_free_attention": {"layers": ["mid_block"]},
    "finetuning": {},
}
BY_CROSS_ATTENTION = {
    "uce": {},
    "gated_cross_attention": {},
    "prompt": {"blocks": ["transformer_blocks.0"]},
    "fair_pca": {"if_needed": {"blocks": ["transformer_blocks.0"]}},
}


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    """Directory of a tiny transformer of a family."""

    @cache
    def directory(family):
        return str(FAMILIES[family](tmp_path_factory.mktemp(family)))

    return directory


def on_transformer(method, **keys):
    return {"name": "m", "method": method, "attribute": "gender", **(TRAINED | BY_CROSS_ATTENTION)[method], **keys}


def settings(mitigation, sampling=None, **model):
    return {
        "name": "trial",
        "model": model,
        "attributes": {"gender": ["female", "male"], "age": ["young", "old"]},
        "sampling": {"steps": 5, "guidance": 2.0} | (sampling or {}),
        "mitigations": [mitigation],
        "quality": {"outside": {}},
        "tracking": {"enabled": False},
    }


def problems(mitigation, sampling=None, **model):
    config = AuditConfig.model_validate(settings(mitigation, sampling, **model))
    found = {".".join(map(str, one.location)): one.message for one in check_ready(config)}
    return {place: message for place, message in found.items() if place.startswith("mitigations")}


@pytest.mark.parametrize("mitigation", INSIDE, ids=lambda one: one["name"])
def test_a_method_that_hooks_modules_inside_compiled_blocks_is_refused(mitigation):
    [(place, message)] = problems(mitigation, compile=True).items()
    assert place == "mitigations.0.method"
    assert message.startswith(f"expected model.compile: false for {mitigation['method']}")
    assert ("networks: [text_encoder]" in message) == (mitigation["method"] == "finetuning")
    assert problems(mitigation) == {}


@pytest.mark.parametrize("mitigation", OUTSIDE, ids=lambda one: one["name"])
def test_other_methods_work_with_compiled_blocks(mitigation):
    assert problems(mitigation, compile=True) == {}


@pytest.mark.parametrize("method", [*TRAINED, *BY_CROSS_ATTENTION])
def test_pixart_takes_every_method(method, transformer):
    assert problems(on_transformer(method), source=transformer("pixart")) == {}


@pytest.mark.parametrize("method", [*TRAINED, *BY_CROSS_ATTENTION])
def test_sana_takes_every_method(method, transformer):
    assert problems(on_transformer(method), source=transformer("sana")) == {}


@pytest.mark.parametrize("method", ["latent_direction", "latent_editing", "finetuning"])
@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_transformers_of_two_streams_take_trainings(method, family, transformer):
    assert problems(on_transformer(method), source=transformer(family)) == {}


@pytest.mark.parametrize("method", ["latent_direction", "latent_editing", "finetuning"])
def test_a_training_that_follows_the_sampler_is_refused_with_true_guidance(method, transformer):
    guided = problems(on_transformer(method), sampling={"true_guidance": 2.5}, source=transformer("flux"))
    assert guided == (
        {}
        if method == "latent_direction"
        else {
            "mitigations.0.method": f"expected no sampling.true_guidance for {method}, whose training follows one call "
            "of the denoiser in each step, found 2.5; remove it, or use another method"
        }
    )


@pytest.mark.parametrize("method", TRAINED)
def test_a_training_that_follows_the_sampler_is_refused_where_each_step_draws_noise(method, tmp_path):
    found = problems(on_transformer(method, **ON_UNET[method]), source=str(FAMILIES["lcm"](tmp_path / "lcm")))
    assert found == (
        {
            "mitigations.0.method": f"expected a sampler that draws noise once for {method}, whose training follows "
            "its steps, found that of a latent consistency model, which draws new noise in each step; use another "
            "method"
        }
        if method in ("latent_editing", "finetuning")
        else {}
    )


def test_a_step_of_ddim_is_refused_for_a_flow_by_what_can_be_set_there(transformer):
    section = on_transformer("latent_editing", reverse_step="asymmetric")
    assert problems(section, source=transformer("sd3")) == {
        "mitigations.0.reverse_step": "expected symmetric with FlowMatchEulerDiscreteScheduler, found asymmetric, "
        "which is a step of DDIM; set reverse_step: symmetric or, for a model of diffusion, sampling.scheduler: "
        "DDIMScheduler"
    }


@pytest.mark.parametrize(("family", "name"), [("sd3", "Stable Diffusion 3"), ("flux", "FLUX.1")])
def test_efa_is_refused_where_no_block_has_cross_attention(family, name, transformer):
    method = "entanglement_free_attention"
    [(place, message)] = problems(on_transformer(method), source=transformer(family)).items()
    assert place == "mitigations.0.method"
    assert message == (
        "expected cross-attention that reads the text's embeddings, as a U-Net or PixArt has, for "
        f"{method}, found {name}; use another method"
    )


@pytest.mark.parametrize("method", BY_CROSS_ATTENTION)
@pytest.mark.parametrize(("family", "name"), [("sd3", "Stable Diffusion 3"), ("flux", "FLUX.1")])
def test_blocks_that_change_the_text_are_refused_where_they_must_read_its_embeddings(method, family, name, transformer):
    [(place, message)] = problems(on_transformer(method), source=transformer(family)).items()
    expected = {"prompt": "mitigations.0.blocks.0", "fair_pca": "mitigations.0.if_needed.blocks.0"}
    assert place == expected.get(method, "mitigations.0.method")
    assert "such as a U-Net or PixArt" in message or "as a U-Net or PixArt has" in message
    assert f"found {name}; " in message


def test_a_transformer_has_no_u_net_and_no_decoder(transformer):
    unet = on_transformer("finetuning", networks=["text_encoder", "unet"])
    assert problems(unet, source=transformer("pixart")) == {
        "mitigations.0.networks.1": "expected text_encoder or denoiser, found unet, which PixArt-α does not have; "
        "write denoiser"
    }
    assert problems(EFA, source=transformer("pixart")) == {
        "mitigations.0.layers": "expected modules with cross-attention, found none: PixArt-α has no up_blocks, where "
        "this method finds it itself; name some, for example layers: [transformer_blocks.0]"
    }
    [(place, message)] = problems(EFA | {"layers": ["proj_out"]}, source=transformer("pixart")).items()
    assert place == "mitigations.0.layers.0"
    assert "cross-attention (transformer_blocks.0, transformer_blocks.1), found 'proj_out'" in message


@pytest.mark.parametrize("method", ["entanglement_free_attention", "gated_cross_attention", "finetuning"])
def test_blocks_of_a_transformer_that_are_compiled_are_not_hooked_inside(method, transformer):
    [(place, message)] = problems(on_transformer(method), source=transformer("pixart"), compile=True).items()
    assert place == "mitigations.0.method"
    assert message.startswith(f"expected model.compile: false for {method}")


def test_a_decoder_without_cross_attention_is_found_before_the_fit(tiny_pipeline, tmp_path):
    changed = shutil.copytree(tiny_pipeline, tmp_path / "sd")
    config = dict(UNet2DConditionModel.load_config(changed / "unet"))
    config["up_block_types"] = ("UpBlock2D", "UpBlock2D")
    UNet2DConditionModel.from_config(config).save_pretrained(changed / "unet")
    found = problems(EFA, source=str(changed))
    assert list(found) == ["mitigations.0.layers"]
    assert "down_blocks.1.attentions.0" in found["mitigations.0.layers"]
    assert problems(EFA | {"layers": ["down_blocks.1"]}, source=str(changed)) == {}
    assert problems(EFA, source=str(tiny_pipeline)) == {}


def test_run_ends_with_one_message_before_work_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "collect_provenance", pytest.fail)
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump(settings(EFA, compile=True) | {"output": str(tmp_path / "runs")}))
    answer = CliRunner().invoke(app, ["run", str(path)])
    assert answer.exit_code == 2
    assert "1 mistake" in answer.output
    assert "set model.compile: false" in answer.output
    assert not (tmp_path / "runs").exists()
