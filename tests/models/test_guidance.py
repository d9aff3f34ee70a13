"""Guidance by further texts: predictions are those of the texts, and nothing else in a step notices the calls."""

import pytest
import torch

from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.models.intervention import Intervention, NoiseGuidance
from audit.records.work import Prompt
from benchmarks.tiny_families import FAMILIES

SEEDS, STEPS = [3, 4], 2
DOCTOR, NURSE = (Prompt(name, f"a face photo of a {name}", name) for name in ("doctor", "nurse"))
SIZES = {"pixart": {"height": 64, "width": 64}}


@pytest.fixture(scope="module", params=["sd", "sdxl", "sd3", "pixart"])
def generator(request, tmp_path_factory):
    sampling = SamplingConfig(steps=STEPS, guidance=2.0, **SIZES.get(request.param, {}))
    hookpoint = "mid_block" if request.param.startswith("sd") and request.param != "sd3" else "transformer_blocks.0"
    source = FAMILIES[request.param](tmp_path_factory.mktemp(request.param))
    return load_generator(ModelConfig(source=str(source)), sampling, hookpoint), hookpoint


def seen_by(generator, texts):
    """What the first step predicts for further texts."""
    seen = []

    def guide(_step, predictions):
        seen.append(predictions)
        return predictions.guided

    arm = Intervention((None,) * len(SEEDS), range(generator.steps), guidance=NoiseGuidance(texts, guide))
    images = generator.generate(DOCTOR, SEEDS, arm)
    return seen, images


@pytest.mark.parametrize("texts", [(NURSE.text,), (NURSE.text, DOCTOR.text), (NURSE.text, DOCTOR.text, NURSE.text)])
def test_predictions_are_those_of_prompts_with_these_texts(generator, texts):
    generator, _ = generator
    seen, images = seen_by(generator, texts)
    assert torch.equal(images, generator.generate(DOCTOR, SEEDS))
    assert len(seen) == generator.steps
    for text, found in zip(texts, seen[0].concepts, strict=True):
        prediction = generator.first_prediction(text, SEEDS, {})
        channels = found.shape[1]
        torch.testing.assert_close(found, prediction[len(SEEDS) :, :channels], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(seen[0].unconditional, prediction[: len(SEEDS), :channels], rtol=1e-4, atol=1e-5)


def test_observers_and_edits_see_the_call_of_the_prompt_alone(generator):
    generator, hookpoint = generator
    seen = []
    every = range(generator.steps)
    guidance = NoiseGuidance((NURSE.text, NURSE.text), lambda _step, predictions: predictions.guided)
    arm = Intervention((None,) * 2, every, edits={hookpoint: lambda _step, h: 1.5 * h})
    both = Intervention((None,) * 2, every, edits=arm.edits, guidance=guidance)
    alone = generator.generate(DOCTOR, SEEDS, arm)
    assert torch.equal(generator.generate(DOCTOR, SEEDS, both, {hookpoint: lambda step, _h: seen.append(step)}), alone)
    assert seen == list(every)
