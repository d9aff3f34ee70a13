"""Selected features have a higher activation for their group than for others, for both baselines of attribution."""

from dataclasses import replace

import pytest
import torch

from audit.calibration.bundle import bundle_of
from audit.config.sections import ModelConfig, SamplingConfig
from audit.dissect.build import attribute_latents
from audit.dissect.features.attribution import rank_features
from audit.dissect.group_heads import GroupHeads
from audit.dissect.lens import Lens
from audit.dissect.recording.layout import Layout
from audit.dissect.recording.recording import Recording
from audit.dissect.recording.trajectories import plan_trajectories
from audit.dissect.sae import SaeShape, SparseAutoencoder
from audit.dissect.settings import Dissection
from audit.models.generator import load_generator
from audit.records.work import Prompt

BASELINES = ("zero", "counterfactual")
SETTINGS = Dissection(
    hookpoint="mid_block",
    whole_map=False,
    expansion=1,
    k=8,
    trajectories=64,
    recorded=2048,
    sae_steps=1,
    features_per_group=10,
    baseline="zero",
    steps=1,
    guidance=3.0,
    batch=32,
    seed=0,
)


def test_a_latent_is_a_feature_of_one_group_or_of_every_group_that_it_raises():
    scores = torch.tensor([[3.0, 2.0, -1.0], [1.0, 4.0, 0.0]])
    assert rank_features(scores, 2) == {0: [0], 1: [1]}
    assert rank_features(scores, 2, shared=True) == {0: [0, 1], 1: [1, 0]}


def share_that_fires_more(sae, recording, attribute, chosen, steps):
    """Return the share of selected latents whose mean is higher over images of their group than over all others."""
    labels = recording.labels[attribute]
    own = {group: torch.zeros(sae.shape.n_latents) for group in chosen}
    others = {group: torch.zeros(sae.shape.n_latents) for group in chosen}
    for step in range(steps):
        for group in chosen:
            own[group] += sae.latents_of_map(recording.at(step, (labels == group).nonzero().flatten())).mean((0, 1))
            others[group] += sae.latents_of_map(recording.at(step, (labels != group).nonzero().flatten())).mean((0, 1))
    more = [bool(own[group][latent] > others[group][latent]) for group, row in chosen.items() for latent in row]
    return sum(more) / len(more)


def in_memory(maps, shape, labels, partners):
    """A recording of maps (S, n, d) that are not in a file; nothing asks for its pictures."""
    steps, n, _ = maps.shape
    layout = Layout(steps, shape, n, n, shape[0], shape[1] * shape[2], sampled=False)
    return Recording(layout, maps, None, labels, partners, None)


def planted(pairs=40):
    """An autoencoder whose latents 0 to 3 are active for group 0, 4 to 7 for group 1, and the rest for both."""
    draws = torch.Generator().manual_seed(0)
    sae = SparseAutoencoder(SaeShape(16, 16, 16)).requires_grad_(False)
    sae.encoder.copy_(torch.eye(16))
    sae.decoder.copy_(torch.eye(16))
    labels = torch.arange(2 * pairs) % 2
    values = 0.2 * torch.rand(2 * pairs, 16, generator=draws)
    values[:, 8:] += torch.rand(2 * pairs, 8, generator=draws)
    for group in (0, 1):
        own = slice(4 * group, 4 * group + 4)
        values[labels == group, own] += 1 + torch.rand(pairs, 4, generator=draws)
    weight = torch.zeros(1, 2, 16)
    weight[0, 0, :4] = weight[0, 1, 4:8] = 1.0
    weight[0, 0, 4:8] = weight[0, 1, :4] = -1.0
    weight += 0.05 * torch.randn(1, 2, 16, generator=draws)
    partners = torch.arange(2 * pairs) ^ 1
    recording = in_memory(values[None].half(), (16, 1, 1), {"tint": labels}, partners)
    return sae, GroupHeads({"tint": ("dark", "bright")}, {"tint": weight}, {"tint": torch.zeros(1, 2)}), recording


@pytest.mark.parametrize("baseline", BASELINES)
def test_planted_features_are_selected_for_their_group(baseline):
    sae, heads, recording = planted()
    scores = attribute_latents(sae, heads, recording, "tint", replace(SETTINGS, baseline=baseline))
    chosen = rank_features(scores.mean(), 4)
    assert {group: set(latents) for group, latents in chosen.items()} == {0: {0, 1, 2, 3}, 1: {4, 5, 6, 7}}
    assert share_that_fires_more(sae, recording, "tint", chosen, steps=1) == 1


STEPS_SEEN = 4


class Seen(Exception):
    """Stops the sampler after enough steps."""


@pytest.fixture(scope="module")
def shipped():
    """The bundled lens, and activations in the first steps of 48 prompts that name a gender, in pairs."""
    model = ModelConfig(source="calibration")
    [directory] = bundle_of(model).lenses.iterdir()
    lens = Lens.load(directory)
    lens.sae.requires_grad_(False)
    settings = replace(SETTINGS, trajectories=96)
    prompts = [Prompt(name, f"a face photo of a {name}", name) for name in ("doctor", "nurse", "teacher", "pilot")]
    groups = {"gender": lens.groups["gender"]}
    named = plan_trajectories(prompts, groups, "a face photo of {a} {occupation}", settings)[48:]
    generator = load_generator(model, SamplingConfig(steps=lens.steps, guidance=3.0))
    maps = []

    def watch(step, h):
        maps.append(h.half())
        if step + 1 == STEPS_SEEN:
            raise Seen

    with pytest.raises(Seen):
        generator.sample([t.prompt.text for t in named], [t.seed for t in named], observers={"mid_block": watch})
    labels = torch.tensor([0 if " female " in t.prompt.text else 1 for t in named])
    partners = torch.tensor([t.partner - 48 for t in named])
    stacked = torch.stack(maps)
    shape = tuple(stacked.shape[2:])
    return lens, in_memory(stacked.flatten(2), shape, {"gender": labels}, partners)


@pytest.mark.parametrize("baseline", BASELINES)
def test_features_of_the_bundled_lens_have_a_higher_activation_for_their_group(shipped, baseline):
    lens, recording = shipped
    settings = replace(SETTINGS, baseline=baseline, steps=STEPS_SEEN)
    scores = attribute_latents(lens.sae, lens.heads, recording, "gender", settings)
    chosen = rank_features(scores.mean(), 30)
    assert [len(row) for row in chosen.values()] == [30, 30]
    assert share_that_fires_more(lens.sae, recording, "gender", chosen, STEPS_SEEN) > 0.9
