"""Fair PCA: all groups have the same mean afterwards, as much variance is kept as is possible, and groups come back."""

import numpy as np
import pytest
import scipy.linalg
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file

from audit.config.mitigations.registry import MitigationConfig
from audit.config.sections import ModelConfig, SamplingConfig
from audit.mitigate.method import Batch
from audit.mitigate.texts.fair_pca import FairPca, FairPcaFit, ProjectedEmbeddings, differences, principal
from audit.models.generator import load_generator
from audit.planning.fits import TENSORS_FILE, FitRequest
from benchmarks.tiny_families import save_pixart
from tests.mitigate.fitting import PROMPTS, TEMPLATE

THREE = ("female", "male", "old")
SAMPLING = SamplingConfig(steps=2, guidance=2.0)


def section(**settings):
    plain = {"name": "pca", "method": "fair_pca", "attribute": "gender", **settings}
    return TypeAdapter(MitigationConfig).validate_python(plain)


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    return load_generator(ModelConfig(source=str(tiny_pipeline)), SAMPLING)


def fitted(generator, groups=THREE, **settings):
    fit, request = FairPcaFit(), FitRequest(section(**settings), groups, TEMPLATE, SAMPLING)
    parts = [fit.part(generator, request, prompt) for prompt in PROMPTS]
    return fit.join(request, {name: parts[0][name] + parts[1][name] for name in parts[0]})


def rows_of(generator, group):
    """All tokens of the prompts that name a group, (n, D)."""
    texts = [f"a face photo of {'an' if group[0] in 'aeo' else 'a'} {group} {p.occupation}" for p in PROMPTS]
    return torch.cat([generator.embeddings(text)["prompt_embeds"][0] for text in texts])


@pytest.mark.parametrize("dimensions", [None, 5])
def test_groups_have_the_same_mean_afterwards(generator, dimensions):
    found = fitted(generator, dimensions=dimensions)
    edit = ProjectedEmbeddings(found, section(push=0.0), ("female",))
    before = torch.stack([rows_of(generator, group).mean(0) for group in THREE])
    after = torch.stack(
        [edit({"prompt_embeds": rows_of(generator, g)[None]})["prompt_embeds"][0].mean(0) for g in THREE]
    )
    assert (before - before.mean(0)).abs().max() > 0.01
    assert (after - after.mean(0)).abs().max() < 1e-5


def test_the_kept_directions_are_those_of_an_independent_fair_pca():
    numbers = np.random.default_rng(0)
    groups = [numbers.normal(size=(40, 7)) @ numbers.normal(size=(7, 7)) + numbers.normal(size=7) for _ in range(3)]
    x, z = np.concatenate(groups), np.repeat(np.eye(3)[:, :2], 40, axis=0)
    # Kleindessner et al. 2023, algorithm 1: the null space of (Z − mean)ᵀ X, then the eigenvectors of Rᵀ Xᵀ X R.
    null = scipy.linalg.null_space((z - z.mean(0)).T @ x)
    _, vectors = np.linalg.eigh(null.T @ x.T @ x @ null)
    published = null @ vectors[:, -3:]
    means = torch.from_numpy(np.stack([rows.mean(0) for rows in groups]))
    kept = principal(torch.from_numpy(x.T @ x), differences(means), 3).numpy()
    np.testing.assert_allclose(kept.T @ kept, published @ published.T, atol=1e-9)


def test_a_push_of_one_gives_each_image_the_mean_of_its_group_in_the_removed_directions(generator):
    found = fitted(generator)
    removed = found["removed/prompt_embeds"].double()
    assert removed.shape[0] == len(THREE) - 1
    embedded = torch.stack([generator.embeddings(p.text)["prompt_embeds"][0] for p in PROMPTS])
    after = ProjectedEmbeddings(found, section(), ("old", "male"))({"prompt_embeds": embedded})["prompt_embeds"]
    for image, group in enumerate(("old", "male")):
        wanted = rows_of(generator, group).double().mean(0) @ removed.T
        torch.testing.assert_close(
            after[image].double() @ removed.T, wanted.expand(len(after[image]), -1), atol=1e-4, rtol=1e-4
        )
    outside = torch.eye(removed.shape[1]).double() - removed.T @ removed
    torch.testing.assert_close(after.double() @ outside, embedded.double() @ outside, atol=1e-4, rtol=1e-4)


def test_half_the_strength_goes_half_the_way(generator):
    found, own = fitted(generator), generator.embeddings(PROMPTS[0].text)
    ways = [ProjectedEmbeddings(found, section(strength=s), ("old",))(own)["prompt_embeds"] for s in (1.0, 0.5)]
    torch.testing.assert_close(ways[1], (own["prompt_embeds"] + ways[0]) / 2)


def test_the_prompt_without_text_is_not_changed(generator, tmp_path):
    save_file(fitted(generator), tmp_path / TENSORS_FILE)
    arm = FairPca().ready(section(push=5.0), None, tmp_path)(Batch(PROMPTS[0], ("male",), 2, TEMPLATE, THREE))
    seen = []
    network, forward = generator.denoiser, generator.denoiser.forward
    network.forward = lambda *inputs, **named: seen.append(named["encoder_hidden_states"]) or forward(*inputs, **named)
    try:
        generator.generate(PROMPTS[0], [1])
        generator.generate(PROMPTS[0], [1], arm)
    finally:
        del network.forward
    plain, changed = seen[0], seen[-1]
    assert torch.equal(plain[0], changed[0])
    assert not torch.equal(plain[1], changed[1])


def test_padding_that_is_not_read_does_not_count(tmp_path):
    generator = load_generator(ModelConfig(source=str(save_pixart(tmp_path))), SAMPLING)
    read = int(generator.pipeline.tokenizer(PROMPTS[0].text, return_tensors="pt").attention_mask.sum())
    assert generator.embeddings(PROMPTS[0].text)["prompt_embeds"].shape[1] == read


def test_texts_that_do_not_differ_are_refused(generator):
    with pytest.raises(ValueError, match="expected texts of the groups that differ"):
        FairPcaFit().join(
            FitRequest(section(), ("a", "b"), TEMPLATE, SAMPLING),
            {"count/prompt_embeds": torch.ones(2).double(), "sum/prompt_embeds": torch.ones(2, 4).double()},
        )
