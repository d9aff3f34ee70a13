"""UCE: the closed form minimises the paper's loss, the loop meets its target, and the weights come back bit for bit."""

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file

from audit.config.mitigations.registry import MitigationConfig
from audit.config.sections import ModelConfig, SamplingConfig
from audit.mitigate.method import Batch
from audit.mitigate.tools import FitTools
from audit.mitigate.weights.uce import (
    BEST,
    COEFFICIENTS,
    COUNTS,
    DISTANCE,
    GAIN,
    GROUPS,
    SHARES,
    TEXT,
    ChangedCrossAttention,
    Uce,
    UceFit,
    beyond_noise,
    closed_form,
    cross_attention,
    distance_from,
)
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.planning.fits import TENSORS_FILE, FitRequest
from audit.preflight.model import check_methods
from benchmarks.tiny_families import save_flux, save_pixart, save_sana, save_sd3
from tests.mitigate.fitting import PROMPTS, TEMPLATE, ByBrightness

SAMPLING = SamplingConfig(steps=2, guidance=2.0, scheduler="DDIMScheduler", batch=4)
TWO = ("female", "male")


def section(**settings):
    plain = {"name": "uce", "method": "uce", "attribute": "gender", **settings}
    return TypeAdapter(MitigationConfig).validate_python(plain)


def request(groups=TWO, **settings):
    return FitRequest(section(**settings), groups, TEMPLATE, SAMPLING)


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    return load_generator(ModelConfig(source=str(tiny_pipeline)), SAMPLING)


def test_the_closed_form_is_the_minimum_of_the_loss_of_the_paper():
    numbers = torch.Generator().manual_seed(0)
    width, out, regularisation = 6, 4, 0.5
    before = torch.randn(out, width, generator=numbers, dtype=torch.float64)
    texts = [torch.randn(2, width, generator=numbers, dtype=torch.float64) for _ in range(3)]
    additions = [torch.randn(2, width, generator=numbers, dtype=torch.float64) for _ in range(3)]
    kept = [torch.randn(1, width, generator=numbers, dtype=torch.float64)]
    weight = (before + before @ closed_form(texts, additions, kept, regularisation)).requires_grad_()
    loss = regularisation * (weight - before).square().sum()  # eq. 6: edit, preserve, stay near
    for text, addition in zip(texts, additions, strict=True):
        loss = loss + (text @ weight.T - (text + addition) @ before.T).square().sum()
    loss = loss + (kept[0] @ weight.T - kept[0] @ before.T).square().sum()
    [gradient] = torch.autograd.grad(loss, weight)
    assert gradient.abs().max() < 1e-9


def test_the_change_moves_keys_and_values_towards_the_groups(generator):
    c = generator.embeddings(PROMPTS[0].text)["prompt_embeds"][0, 5:6].float()
    a = generator.embeddings("female")["prompt_embeds"][0, 1:2].float()
    change = closed_form([c], [0.5 * a], [], 1e-6)
    layers = cross_attention(generator.denoiser, c.shape[1])
    wanted = {name: layer(c + 0.5 * a) for name, layer in layers.items()}
    assert len(layers) == 2 * 4  # keys and values of four attentions
    with ChangedCrossAttention(change)(generator.denoiser):
        for name, layer in layers.items():
            torch.testing.assert_close(layer(c), wanted[name], rtol=1e-3, atol=1e-4)


def fail_with_changed_weights(denoiser, before):
    changed = {name for name, tensor in denoiser.state_dict().items() if not torch.equal(tensor, before[name][1])}
    assert changed == {f"{name}.weight" for name in cross_attention(denoiser, 16)}
    raise RuntimeError("inside")


def test_weights_come_back_bit_for_bit_also_after_an_exception(generator):
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in generator.denoiser.state_dict().items()}
    borrowed = ChangedCrossAttention(
        torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    for _ in range(2):
        with pytest.raises(RuntimeError, match="inside"), borrowed(generator.denoiser):
            fail_with_changed_weights(generator.denoiser, before)
        for name, tensor in generator.denoiser.state_dict().items():
            assert (tensor.data_ptr(), True) == (before[name][0], torch.equal(tensor, before[name][1]))


@pytest.mark.parametrize("tokens", ["last", "to_end"])
def test_the_embedding_is_that_of_the_last_token_before_the_end(generator, tokens):
    fit = UceFit()
    tools = FitTools(generator, lambda: ByBrightness(TWO), lambda: None)
    sums = fit.part(tools, request(images_per_prompt=2, tokens=tokens), PROMPTS[1], {})
    tokenizer = generator.pipeline.tokenizer
    rows = generator.embeddings(PROMPTS[1].text)["prompt_embeds"][0]
    last = sum(tokenizer(PROMPTS[1].text, padding="max_length")["attention_mask"]) - 2
    ids = tokenizer(PROMPTS[1].text).input_ids
    assert tokenizer.decode(ids[last]).strip() in "nurse"
    own = sums[f"{TEXT}/nurse"]
    assert torch.equal(own[0], rows[last])
    assert (len(own) == 1) == (tokens == "last")
    assert sums[f"{GROUPS}/nurse"].shape == (2, *own.shape)


def test_a_difference_counts_only_beyond_tolerance_and_standard_error():
    target = torch.tensor([0.5, 0.5], dtype=torch.float64)
    counts = torch.tensor([6.0, 4.0], dtype=torch.float64)  # standard error .158
    assert beyond_noise(target, counts, 0.05).tolist() == [0, 0]
    torch.testing.assert_close(beyond_noise(target, 100 * counts, 0.05), torch.tensor([-0.1, 0.1]).double())
    assert beyond_noise(target, 100 * counts, 0.1 + 1e-9).tolist() == [0, 0]
    assert beyond_noise(target, 0 * counts, 0.0).tolist() == [0, 0]
    assert distance_from(target, torch.stack([counts, 0 * counts])) == pytest.approx((0.1 + 1) / 2)


def play(target, gain, rounds=12, images=400):
    """Run the loop on a model whose shares follow the coefficients by a known curve; nothing is drawn."""
    groups, fit, numbers = tuple(target), UceFit(), torch.Generator().manual_seed(1)
    asked = request(groups, target=target, gain=gain, rounds=rounds, images_per_prompt=images)
    bias = {"doctor": torch.linspace(1, -1, len(groups)), "nurse": torch.linspace(-1, 2, len(groups))}
    texts = {f"{TEXT}/{name}": torch.randn(1, 8, generator=numbers) for name in bias}
    texts |= {f"{GROUPS}/{name}": torch.randn(len(groups), 1, 8, generator=numbers) for name in bias}
    found, drawn = {}, 0
    while drawn < fit.rounds(asked) and not (found and fit.is_finished(asked, found)):
        counts = {}
        for name, own in bias.items():
            shift = found[f"{COEFFICIENTS}/{name}"].float() if found else 0
            shares = torch.softmax(own + 2 * shift, 0)
            picks = torch.multinomial(shares, images, replacement=True, generator=numbers)
            counts[f"{COUNTS}/{name}"] = torch.bincount(picks, minlength=len(groups)).double()
        found, drawn = fit.join(asked, counts | ({} if found else texts), found), drawn + 1
    return found, drawn


@pytest.mark.parametrize(
    "target", [{"female": 0.5, "male": 0.5}, {"female": 0.2, "male": 0.8}, {"a": 0.2, "b": 0.3, "c": 0.5}]
)
def test_the_loop_meets_any_target_of_any_number_of_groups(target):
    found, rounds = play(target, gain=1.0)
    assert rounds < 12
    assert found[DISTANCE][0] > 0.2
    assert found[DISTANCE].min() <= 0.05
    assert found[SHARES].shape == (rounds, 2, len(target))
    assert bool((found[BEST] != 0).any())


def test_a_gain_that_is_too_large_is_halved_until_it_fits_and_the_best_round_is_kept():
    found, _ = play({"female": 0.5, "male": 0.5}, gain=40.0)
    distances = found[DISTANCE].tolist()
    assert max(distances[1:3]) > 0.4  # it swings at first
    assert min(distances) <= 0.05
    assert {float(found[f"{GAIN}/{name}"]) < 40 for name in ("doctor", "nurse")} == {True}
    best = distances.index(min(distances[:3]))
    early, _ = play({"female": 0.5, "male": 0.5}, gain=40.0, rounds=3)
    again, _ = play({"female": 0.5, "male": 0.5}, gain=40.0, rounds=best + 1)
    assert torch.equal(early[BEST], again[BEST])


def test_a_prompt_whose_first_images_show_no_group_ends_the_fit_in_words():
    texts = {f"{TEXT}/doctor": torch.ones(1, 3), f"{GROUPS}/doctor": torch.ones(2, 1, 3)}
    with pytest.raises(ValueError, match="expected images of 'doctor' that show a group of gender, found none"):
        UceFit().join(request(), {f"{COUNTS}/doctor": torch.zeros(2).double(), **texts}, {})


@pytest.mark.parametrize("save", [save_pixart, save_sana])
def test_a_transformer_reads_the_text_behind_its_projection_and_its_keys_move_towards_the_groups(tmp_path, save):
    """The last token of a text, found among the tokens that the network itself gives to its first attention."""
    sampling = SamplingConfig(steps=2, guidance=2.0)
    generator = load_generator(ModelConfig(source=str(save(tmp_path))), sampling, "transformer_blocks.0")
    seen, layers = [], cross_attention(generator.denoiser, generator.from_last_token("female").shape[1])
    key = next(iter(layers.values()))
    hook = key.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    generator.first_prediction(PROMPTS[0].text, [1], {})
    hook.remove()
    (own,), mask = seen[0][1:].float(), generator._encoded(PROMPTS[0].text)["prompt_attention_mask"]
    last = int(mask.sum()) - (2 if save is save_pixart else 1)  # T5 marks the end
    c, a = generator.from_last_token(PROMPTS[0].text)[:1], generator.from_last_token("female")[:1]
    torch.testing.assert_close(c[0], own[last])
    ids = generator.pipeline.tokenizer(PROMPTS[0].text).input_ids
    assert generator.pipeline.tokenizer.decode(ids[-1 if save is save_sana else -2]).strip() in ("doctor", "r")
    change = closed_form([c], [0.5 * a], [], 1e-6)
    with torch.inference_mode():
        wanted = {name: layer(c + 0.5 * a) for name, layer in layers.items()}
        with ChangedCrossAttention(change)(generator.denoiser):
            for name, layer in layers.items():
                torch.testing.assert_close(layer(c), wanted[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("save", [save_sd3, save_flux])
def test_a_model_without_such_cross_attention_is_refused_in_words(tmp_path, save):
    model = ModelConfig(source=str(save(tmp_path)))
    sampling = SamplingConfig(steps=2, guidance=2.0, height=32, width=32)
    [problem] = check_methods(model, sampling, [section()])
    assert problem.location == ("mitigations", 0, "method")
    assert "cross-attention that reads the text's embeddings" in problem.message
    save_file({BEST: torch.ones(32, 32)}, tmp_path / TENSORS_FILE)
    generator = load_generator(model, sampling, "transformer_blocks.0")
    arm = Uce().ready(section(), None, tmp_path)(Batch(PROMPTS[0], TWO, 2, TEMPLATE, TWO))
    with pytest.raises(UnfitModelError, match="UCE changes keys and values of cross-attention"):
        generator.generate(PROMPTS[0], [1, 2], arm)
