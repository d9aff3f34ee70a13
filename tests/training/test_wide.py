"""The wide model is a stock PixArt pipeline, reads texts in training as that pipeline does, and learns its teacher."""

from dataclasses import replace

import pytest
import torch
from diffusers import PixArtAlphaPipeline, StableDiffusionPipeline

from audit.calibration.bundle import BUNDLED, Bundle
from audit.calibration.labels import DETAILS
from audit.calibration.world import World
from audit.config.fields import WIDE
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.generator import load_generator
from audit.perception.judges.kinds.bundled import calibration_answers
from audit.records.work import Prompt
from audit.training import wide
from audit.training.captions import training_examples
from audit.training.loop import Schedule
from audit.training.unet import Denoiser, Examples, train_denoiser
from audit.training.wide import QUICK, make, new_tokenizer

SHORT = Schedule(steps=2, batch=8, learning_rate=1e-4)
RECIPE = replace(QUICK, drawings=640, judge=SHORT, teacher=SHORT, shares=SHORT)
TEXTS = ["a face photo of a doctor", "an odd word"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("wide")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wide, "HELD_OUT", 200)
        make(out, RECIPE)
    return out


@pytest.fixture(scope="module")
def teacher():
    stock = StableDiffusionPipeline.from_pretrained(Bundle.at(BUNDLED).pipeline, dtype=torch.float32)
    return Denoiser(stock.unet, stock.text_encoder, stock.tokenizer, stock.scheduler)


def test_every_word_of_a_caption_is_one_token_and_other_words_are_letters():
    tokenizer = new_tokenizer()
    _, captions = training_examples(World.bundled(), range(500))
    for caption in captions:
        assert tokenizer.tokenize(caption) == [f"▁{word}" for word in caption.split()]
    assert tokenizer.unk_token not in tokenizer.tokenize("xenon, 3.5")


def test_an_audit_loads_it_with_its_own_judge_of_details(trained):
    model = ModelConfig(source=WIDE, world=str(trained))
    images = load_generator(model, SamplingConfig(steps=2, guidance=2.0)).generate(Prompt("d", TEXTS[0], "d"), [1, 2])
    assert images.shape == (2, 3, 64, 64)
    answers = calibration_answers(trained / "judge")
    assert {detail: answers[detail] for detail in DETAILS} == DETAILS


def test_it_reads_a_text_as_the_stock_pipeline_does(trained):
    stock = PixArtAlphaPipeline.from_pretrained(trained / "pipeline", dtype=torch.float32)
    own = wide.WideDenoiser(stock.transformer, stock.text_encoder, stock.tokenizer, stock.scheduler)
    noisy, t = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500, 20])
    text, mask, *_ = stock.encode_prompt(TEXTS, do_classifier_free_guidance=False, max_sequence_length=40)
    with torch.inference_mode():
        expected = stock.transformer(
            noisy,
            encoder_hidden_states=text,
            timestep=t,
            encoder_attention_mask=mask,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample
        torch.testing.assert_close(own.velocity(noisy, t, own.tokens(TEXTS)), expected, rtol=1e-4, atol=1e-5)


def test_with_a_teacher_its_predictions_are_learned_and_not_the_noise(teacher, tmp_path):
    examples = Examples(torch.randn(16, 16, 8, 8), TEXTS[:1] * 16, torch.ones(16))
    schedule = Schedule(steps=1, batch=16, learning_rate=0.0)
    loss = train_denoiser(teacher, examples, schedule, tmp_path / "own.pt", teacher)
    assert loss == [pytest.approx(0.0, abs=1e-9)]
    assert train_denoiser(teacher, examples, schedule, tmp_path / "other.pt")[0] > 0.05
