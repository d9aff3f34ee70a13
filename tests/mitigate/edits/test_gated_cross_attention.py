"""Gated cross-attention: outputs lose the groups' directions and gain the assigned one; named prompts pass."""

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from audit.config.mitigations.registry import MitigationConfig
from audit.config.sections import ModelConfig, SamplingConfig
from audit.mitigate.edits.gated_cross_attention import (
    ALPHA,
    DIRECTION,
    GATE,
    THRESHOLD,
    Gate,
    GatedCrossAttention,
    Layer,
    SteeredOutput,
    cross_attention_outputs,
)
from audit.mitigate.method import Batch
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.planning.fits import TENSORS_FILE
from audit.records.work import derive_seed
from benchmarks.tiny_families import save_sd3
from tests.mitigate.fitting import PROMPTS, TEMPLATE, fit_here

TWO, IMAGES, STEPS = ("female", "male"), 3, 2


def section(**settings):
    plain = {
        "name": "g",
        "method": "gated_cross_attention",
        "attribute": "gender",
        "images_per_group": IMAGES,
        **settings,
    }
    return TypeAdapter(MitigationConfig).validate_python(plain)


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    sampling = SamplingConfig(steps=STEPS, guidance=2.0, scheduler="DDIMScheduler")
    return load_generator(ModelConfig(source=str(tiny_pipeline)), sampling)


@pytest.fixture(scope="module")
def fitted(generator, tmp_path_factory):
    return fit_here(section(), generator, TWO, tmp_path_factory.mktemp("gated") / "fit")


def outputs(generator, path, template):
    """Outputs of a cross-attention, one image at a time: (S, images, T, C)."""
    seen = []
    for prompt in PROMPTS:
        for i in range(IMAGES):
            own, seed = [], derive_seed("gated_cross_attention", prompt.id, i)
            observers = {path: lambda _step, h, own=own: own.append(h[0, :, :, 0].T.clone())}
            generator.sample([template.format(prompt.occupation)], [seed], observers=observers)
            seen.append(torch.stack(own))
    return torch.stack(seen, 1)


def test_directions_and_magnitudes_are_means_over_all_images(generator, fitted):
    found, paths = load_file(fitted / TENSORS_FILE), cross_attention_outputs(generator.denoiser)
    assert len(paths) == 4
    for path in paths[:2]:
        plain, male = (outputs(generator, path, f"a face photo of a {word}{{}}") for word in ("", "male "))
        difference = male.mean((1, 2)) - plain.mean((1, 2))
        direction = difference / difference.norm(dim=1, keepdim=True)
        torch.testing.assert_close(found[f"{DIRECTION}/{path}"][:, 1], direction, rtol=1e-2, atol=1e-3)
        alpha = (male @ found[f"{DIRECTION}/{path}"][:, 1, :, None].unsqueeze(1)).mean((1, 2, 3))
        torch.testing.assert_close(found[f"{ALPHA}/{path}"][:, 1], alpha, rtol=1e-3, atol=1e-4)


def test_the_gate_is_the_midpoint_at_one_layer(generator, fitted):
    found, paths = load_file(fitted / TENSORS_FILE), cross_attention_outputs(generator.denoiser)
    path = paths[int(found[GATE])]
    directions = found[f"{DIRECTION}/{path}"][0]
    for row, group in enumerate(TWO):
        largest = [
            (outputs(generator, path, f"a face photo of a {word}{{}}")[0] @ directions[row]).amax(1).mean()
            for word in ("", f"{group} ")
        ]
        torch.testing.assert_close(found[THRESHOLD][row], sum(largest) / 2, rtol=1e-3, atol=1e-4)


LAYER = Layer.of(
    torch.nn.functional.normalize(torch.randn(1, 2, 5, generator=torch.Generator().manual_seed(0)), dim=2),
    torch.tensor([[2.0, 3.0]]),
)
H = torch.randn(2, 5, 4, 1, generator=torch.Generator().manual_seed(1))


def test_an_output_loses_all_directions_and_gains_that_of_its_group():
    edited = SteeredOutput(section(keep_length=False, push=0.5), "p", LAYER, (1, 0), None)(0, H)
    directions = LAYER.directions[0]
    for image, row in enumerate((1, 0)):
        for position in range(4):
            x = H[image, :, position, 0].double()
            span = torch.linalg.lstsq(directions.T.double(), x[:, None]).solution
            expected = x - directions.T.double() @ span[:, 0] + 0.5 * LAYER.alphas[0, row] * directions[row]
            torch.testing.assert_close(edited[image, :, position, 0].double(), expected, rtol=1e-4, atol=1e-5)
    kept = SteeredOutput(section(), "p", LAYER, (1, 0), None)(0, H)
    torch.testing.assert_close(kept.norm(dim=1), H.norm(dim=1))


def test_only_images_with_an_open_gate_change_and_none_before_it_is_asked():
    responses = (H[..., 0].transpose(1, 2) @ LAYER.directions[0].T).amax(1)  # (B, G)
    between = (responses[0, 0] + responses[1, 0]) / 2
    gate = Gate(torch.tensor([between, 1e9]), "q")
    steered = {path: SteeredOutput(section(), path, LAYER, (1, 0), gate) for path in ("p", "q")}
    assert torch.equal(steered["p"](0, H), H)
    changed = (steered["q"](0, H) != H).flatten(1).any(1)
    assert changed.tolist() == (responses[:, 0] <= between).tolist()
    assert sorted(changed.tolist()) == [False, True]
    assert torch.equal((steered["p"](0, H) != H).flatten(1).any(1), changed)


def test_prompts_that_name_a_group_are_let_through(generator, fitted):
    """Thresholds below every response close the gate for all images, those above open it."""
    plain, batch = generator.generate(PROMPTS[0], [1, 2]), Batch(PROMPTS[0], TWO, STEPS, TEMPLATE, TWO)
    found = load_file(fitted / TENSORS_FILE)
    for shift, same in ((-1e6, True), (1e6, False)):
        place = fitted.parent / str(same)
        place.mkdir()
        save_file(found | {THRESHOLD: found[THRESHOLD] + shift}, place / TENSORS_FILE)
        arm = GatedCrossAttention().ready(section(push=5.0), None, place)(batch)
        assert torch.equal(generator.generate(PROMPTS[0], [1, 2], arm), plain) == same


def test_a_model_without_cross_attention_is_refused_in_words(tmp_path):
    generator = load_generator(ModelConfig(source=str(save_sd3(tmp_path))), SamplingConfig(steps=2, guidance=2.0))
    with pytest.raises(UnfitModelError, match="steers the outputs of cross-attention, found none"):
        cross_attention_outputs(generator.denoiser)
