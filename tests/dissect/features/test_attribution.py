"""Closed-form integrated gradients equal the autograd path integral, for any number of groups and any baseline."""

import functools
import operator

import pytest
import torch

from audit.dissect.features.attribution import (
    Attribution,
    StreamingAttribution,
    code_change,
    integrated_gradients,
    latent_effects,
    rank_features,
)
from audit.dissect.sae import SaeShape, SparseAutoencoder, SparseCodes

C, H, W, N, K, B = 6, 2, 3, 20, 4, 3


def autograd_integrated_gradients(sae, maps, start, end, head, temperature, points=300):
    """Midpoint rule over autograd gradients through the full decoder; latents (B, P, N), result (B, P, N, G)."""
    weight, bias = head
    error = sae.vectors_of_map(maps) - sae.decode(end)
    total = torch.zeros(*end.shape, weight.shape[0], dtype=end.dtype)
    for point in range(points):
        z = (start + (point + 0.5) / points * (end - start)).requires_grad_()
        vectors = sae.decode(z) + error
        flat = vectors.flatten(1) if sae.shape.whole_map else vectors.transpose(1, 2).flatten(1)
        p = ((flat @ weight.T + bias) / temperature).softmax(-1).sum(0)
        for group in range(weight.shape[0]):
            total[..., group] += torch.autograd.grad(p[group], z, retain_graph=True)[0] / points
    return total * (end - start).unsqueeze(-1)


def setting(groups, whole_map=False):
    generator = torch.Generator().manual_seed(groups)
    width = C * H * W if whole_map else C
    sae = SparseAutoencoder(SaeShape(width, N, K, whole_map), generator)
    sae.fit_inputs(3 * torch.randn(100, width, generator=generator))
    sae = sae.double().requires_grad_(False)
    maps, other = 3 * torch.randn(2, B, C, H, W, generator=generator, dtype=torch.float64)
    weight = torch.randn(groups, C * H * W, generator=generator, dtype=torch.float64) / 6
    return sae, maps, other, (weight, torch.randn(groups, generator=generator, dtype=torch.float64))


def closed_form(sae, maps, other, head, temperature=1.0):
    change = code_change(sae.codes_of_map(maps), None if other is None else sae.codes_of_map(other))
    effects = latent_effects(sae, head[0], H * W)
    return integrated_gradients(change, effects, maps.flatten(1) @ head[0].T + head[1], temperature)


@pytest.mark.parametrize("groups", [2, 3, 4])
@pytest.mark.parametrize("counterfactual", [False, True], ids=["zero", "counterfactual"])
@pytest.mark.parametrize("whole_map", [False, True], ids=["positions", "whole_map"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_closed_form_equals_autograd(groups, counterfactual, whole_map, temperature):
    sae, maps, other, head = setting(groups, whole_map)
    end = sae.latents_of_map(maps)
    start = sae.latents_of_map(other) if counterfactual else torch.zeros_like(end)
    oracle = autograd_integrated_gradients(sae, maps, start, end, head, temperature)
    ours = closed_form(sae, maps, other if counterfactual else None, head, temperature).by_position()
    assert oracle.abs().max() > 1e-3
    assert (ours - oracle).abs().max() < 1e-5 * oracle.abs().max()


@pytest.mark.parametrize("groups", [2, 3, 4])
@pytest.mark.parametrize("counterfactual", [False, True], ids=["zero", "counterfactual"])
@pytest.mark.parametrize("whole_map", [False, True], ids=["positions", "whole_map"])
def test_raised_attribution_is_the_mean_gradient_times_the_absolute_change(groups, counterfactual, whole_map):
    sae, maps, other, head = setting(groups, whole_map)
    end = sae.latents_of_map(maps)
    start = sae.latents_of_map(other) if counterfactual else torch.zeros_like(end)
    signed = autograd_integrated_gradients(sae, maps, start, end, head, 1.0)
    oracle = signed * (end - start).sign().unsqueeze(-1)
    found = closed_form(sae, maps, other if counterfactual else None, head)
    assert (found.when_raised().by_position() - oracle).abs().max() < 1e-5 * oracle.abs().max()
    if not counterfactual:
        assert torch.equal(found.when_raised().entries, found.entries)


def test_a_change_lists_each_changed_latent_once():
    target = SparseCodes(torch.tensor([[[3.0, 1.0, 0.0]]]), torch.tensor([[[5, 2, 7]]]))
    baseline = SparseCodes(torch.tensor([[[4.0, 2.0, 6.0]]]), torch.tensor([[[2, 9, 7]]]))
    change = code_change(target, baseline)
    moved = {
        i: v for i, v in zip(change.indices.flatten().tolist(), change.values.flatten().tolist(), strict=True) if v
    }
    assert moved == {5: 3.0, 2: -3.0, 7: -6.0, 9: -2.0}
    assert (change.values != 0).sum() == 4


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_attributions_add_up_to_the_change_of_probability(groups):
    sae, maps, other, head = setting(groups)
    found = closed_form(sae, maps, other, head)
    error = sae.vectors_of_map(maps) - sae.decode(sae.latents_of_map(maps))
    baseline = (sae.decode(sae.latents_of_map(other)) + error).transpose(1, 2).flatten(1)
    change = (maps.flatten(1) @ head[0].T + head[1]).softmax(1) - (baseline @ head[0].T + head[1]).softmax(1)
    torch.testing.assert_close(found.by_sample().sum(1), change, atol=1e-6, rtol=1e-6)
    assert found.completeness_gap.shape == (B,)
    assert found.completeness_gap.max() < 1e-6


def test_the_completeness_gap_shows_an_insufficient_quadrature():
    sae, maps, _, head = setting(3)
    effects = latent_effects(sae, head[0], H * W)
    logits = maps.flatten(1) @ head[0].T + head[1]
    steep = integrated_gradients(sae.codes_of_map(maps), effects, logits, temperature=1e-3, nodes=4)
    assert steep.completeness_gap.max() > 1e-3


def test_two_groups_are_exact_without_quadrature_for_any_slope():
    sae, maps, other, head = setting(2)
    assert closed_form(sae, maps, other, head, temperature=1e-3).completeness_gap.max() < 1e-9


def test_two_groups_without_a_change_of_logits_use_the_slope():
    codes = SparseCodes(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[0, 1]]]))
    effects = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    found = integrated_gradients(codes, effects, torch.zeros(1, 2)).by_sample()[0]
    torch.testing.assert_close(found, torch.tensor([[0.25, -0.25], [-0.25, 0.25]]))


def test_reduced_sums_equal_the_sum_over_positions():
    found = closed_form(*setting(3))
    torch.testing.assert_close(found.by_sample(), found.by_position().sum(1))


def test_equal_codes_have_no_attribution():
    sae, maps, _, head = setting(3)
    assert closed_form(sae, maps, maps, head).by_sample().abs().max() < 1e-12


def test_streamed_sums_merge_to_the_total():
    found = closed_form(*setting(3))
    members = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 1]])
    parts = [StreamingAttribution.of(one_sample(found, b), members[b : b + 1]) for b in range(B)]
    merged = functools.reduce(operator.add, reversed(parts))
    expected = torch.einsum("bng,bg->gn", found.by_sample(), members.double())
    torch.testing.assert_close(merged.sums, expected)
    torch.testing.assert_close(merged.mean(), expected / torch.tensor([[1.0], [2.0], [1.0]], dtype=torch.float64))
    assert merged.gap == found.completeness_gap.max()


def one_sample(found, b):
    rows = slice(b, b + 1)
    return Attribution(
        found.entries[rows],
        found.indices[rows],
        found.directions[rows],
        found.n_latents,
        found.completeness_gap[rows],
    )


def test_a_group_without_samples_has_no_mean():
    found = closed_form(*setting(2))
    with pytest.raises(ValueError, match=r"groups \[1\]"):
        StreamingAttribution.of(found, torch.tensor([[1.0, 0.0]] * B)).mean()


def test_ranking_assigns_a_latent_only_to_the_group_with_its_largest_score():
    scores = torch.tensor([[0.5, 0.2, -0.1, 0.3, 0.0], [0.1, 0.4, -0.3, 0.2, 0.0]])
    assert rank_features(scores, 2) == {0: [0, 3], 1: [1]}
    assert rank_features(scores, 1) == {0: [0], 1: [1]}


def test_heads_of_another_lens_are_refused():
    sae, _, _, head = setting(2)
    with pytest.raises(ValueError, match="same lens"):
        latent_effects(sae, head[0], H * W + 1)


@pytest.mark.parametrize(("samples", "temperature"), [(0, 1.0), (1, 0.0)])
def test_an_empty_batch_or_an_invalid_temperature_is_refused(samples, temperature):
    codes = SparseCodes(torch.ones(samples, 1, 2), torch.zeros(samples, 1, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="at least one sample"):
        integrated_gradients(codes, torch.ones(1, 3, 2), torch.zeros(samples, 2), temperature)
