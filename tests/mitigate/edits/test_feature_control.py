"""Feature controls: the choice is what its name says, and the change is as large as that of the attributed features."""

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file

from audit.config.mitigations.registry import MitigationConfig
from audit.config.sections import ModelConfig, SamplingConfig
from audit.mitigate.edits.difflens import DiffLensEdit, Steering
from audit.mitigate.edits.feature_control import CHOSEN, FIRING, FeatureControl, chosen_latents
from audit.mitigate.method import Batch
from audit.models.generator import load_generator
from audit.records.work import derive_seed
from tests.mitigate.fitting import PROMPTS, TEMPLATE, fit_here, random_lens

TWO = ("female", "male")


def section(**settings):
    plain = {"name": "c", "method": "feature_control", "attribute": "gender", "features_per_group": 2, **settings}
    return TypeAdapter(MitigationConfig).validate_python(plain)


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    sampling = SamplingConfig(steps=3, guidance=2.0, scheduler="DDIMScheduler")
    return load_generator(ModelConfig(source=str(tiny_pipeline)), sampling)


@pytest.fixture(scope="module")
def lens(generator):
    return random_lens(generator, TWO)


TOTALS = torch.tensor([[9.0, 6, 5, 1, 0, 3, 2], [8.0, 1, 5, 6, 0, 3, 1]])
FREE = torch.zeros(7, dtype=torch.bool)


def test_activation_and_firing_difference_choose_different_latents():
    assert chosen_latents(section(choice="activation"), TOTALS, FREE).tolist() == [[0, 1], [0, 3]]
    found = chosen_latents(section(choice="firing_difference", features_per_group=1), TOTALS, FREE)
    assert found.tolist() == [[1], [3]]


def test_a_random_choice_leaves_out_attributed_and_dead_latents():
    attributed = torch.tensor([True, False, False, False, False, False, False])
    found = chosen_latents(section(choice="random"), TOTALS, attributed)
    assert len(set(found.flatten().tolist())) == 4
    assert not {0, 4} & set(found.flatten().tolist())
    assert torch.equal(found, chosen_latents(section(choice="random"), TOTALS, attributed))
    with pytest.raises(ValueError, match="expected 6 active latents that attribution did not choose, found 5"):
        chosen_latents(section(choice="random", features_per_group=3), TOTALS, attributed)


@pytest.mark.parametrize("choice", ["random", "activation", "firing_difference"])
def test_the_change_has_the_norm_of_the_attributed_one(generator, lens, tmp_path, choice):
    control = section(choice=choice, images_per_group=2)
    fitted = fit_here(control, generator, TWO, tmp_path / "fit", lens=lens)
    assigned, strengths = ("male", "female", "male"), (1.0,) * 3
    arm = FeatureControl().ready(control, lens, fitted)(Batch(PROMPTS[0], assigned, 3, TEMPLATE, TWO))
    h = torch.randn(
        3, *generator.first_maps(PROMPTS[0].text, [0]).shape[1:], generator=torch.Generator().manual_seed(2)
    )
    reference = DiffLensEdit(lens, "gender", "add", Steering(assigned, strengths))
    own, attributed = arm.edits["mid_block"](1, h) - h, reference(1, h) - h
    torch.testing.assert_close(own.flatten(1).norm(dim=1), attributed.flatten(1).norm(dim=1), rtol=1e-4, atol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(own.flatten(1), attributed.flatten(1))
    assert cosine.abs().max() < 0.999


def test_mean_activations_are_those_of_images_that_name_the_group(generator, lens, tmp_path):
    control = section(choice="activation", images_per_group=3)
    found = load_file(fit_here(control, generator, TWO, tmp_path / "fit", lens=lens) / "fit.safetensors")
    sums = []
    for prompt in PROMPTS:
        for i in range(3):
            own = []
            seed = derive_seed("feature_control", prompt.id, i)
            observers = {"mid_block": lambda _step, h, own=own: own.append(lens.sae.latents_of_map(h)[0])}
            generator.sample([f"a face photo of a male {prompt.occupation}"], [seed], observers=observers)
            sums.append(torch.stack(own))
    means = torch.stack(sums).mean(0)  # (S, P, N)
    assert set(found[CHOSEN][1].tolist()) == set(means.mean((0, 1)).topk(2).indices.tolist())
    torch.testing.assert_close(found[f"{FIRING}/male"], means[..., found[CHOSEN][1]], rtol=1e-3, atol=1e-4)
