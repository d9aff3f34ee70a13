"""Transformers return tokens: a lens of them is dissected, saved, steered and observed like one of maps."""

from dataclasses import asdict, replace

import pytest
import torch

from audit.config.mitigations.edits import DiffLensConfig
from audit.config.sections import ModelConfig, SamplingConfig
from audit.dissect.build import build_lens
from audit.dissect.examples import write_examples
from audit.dissect.lens import Lens
from audit.dissect.observer import AttributionObserver, EffectTable, project
from audit.dissect.recording.recorder import Recorder
from audit.dissect.recording.trajectories import plan_trajectories
from audit.mitigate.edits.difflens import Steering, steered
from audit.models.generator import load_generator
from benchmarks.tiny_families import save_flux, save_pixart, save_sd3
from tests.dissect.test_build import GROUPS, PROMPTS, TEMPLATE, TintJudge, settings

HOOKPOINT, STEPS = "transformer_blocks.0", 2
FAMILIES = {
    "sd3": (save_sd3, {}, (16, 16, 1)),
    "flux": (save_flux, {"height": 32, "width": 32}, (32, 64, 1)),
    "pixart": (save_pixart, {}, (16, 256, 1)),
}
TEXTS, SEEDS = [PROMPTS[0].text] * 2, [1, 2]


@pytest.fixture(scope="module", params=FAMILIES)
def dissected(request, tmp_path_factory):
    save, size, shape = FAMILIES[request.param]
    root = tmp_path_factory.mktemp(request.param)
    sampling = SamplingConfig(steps=STEPS, guidance=2.0, **size)
    generator = load_generator(ModelConfig(source=str(save(root))), sampling, HOOKPOINT)
    chosen = replace(settings(), hookpoint=HOOKPOINT, trajectories=24, batch=12, sae_steps=10)
    trajectories = plan_trajectories(PROMPTS, GROUPS, TEMPLATE, chosen)
    recorder = Recorder(generator, TintJudge(), GROUPS, trajectories, chosen, root / "recording")
    lens, recording = build_lens(recorder, GROUPS, chosen, asdict(chosen), generator.fingerprint)
    assert recording.shape == shape
    write_examples(lens, recording, root / "lens")
    lens.save(root / "lens")
    return generator, Lens.load(root / "lens"), root / "lens"


def test_a_latent_belongs_to_a_token(dissected):
    _, lens, directory = dissected
    features = lens.features["tint"]["dark"] + lens.features["tint"]["bright"]
    assert features
    assert lens.sae.shape.d_in in (16, 32)  # channels, not tokens
    assert (directory / "examples" / f"{features[0].latent}-0.webp").is_file()


@pytest.mark.parametrize("kind", ["add", "scale"])
def test_tokens_are_steered_and_a_neutral_edit_changes_nothing(dissected, kind):
    generator, lens, _ = dissected
    mitigation = DiffLensConfig(name="tint", attribute="tint", edit=kind)
    before = generator.sample(TEXTS, SEEDS)

    def drawn(strength):
        edit = steered(mitigation, lens, Steering(("dark", "bright"), (strength, strength)))
        return generator.sample(TEXTS, SEEDS, edit)

    assert torch.equal(drawn(0.0), before)
    assert not torch.equal(drawn(6.0), before)


def test_tokens_are_attributed_and_predict_strengths(dissected):
    generator, lens, _ = dissected
    observer = AttributionObserver(lens, len(SEEDS), EffectTable(lens))
    generator.sample(TEXTS, SEEDS, observers={HOOKPOINT: observer})
    assert observer.part()["attribution/tint"].shape == (2, lens.sae.shape.n_latents)
    margins = project(generator, lens, PROMPTS[0], "tint")
    assert margins["dark"] == pytest.approx(-margins["bright"])
