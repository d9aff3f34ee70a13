"""Heads per step find planted directions, find nothing in noise, and minimise the documented loss."""

import pytest
import torch
import torch.nn.functional as F

from audit.dissect.group_heads import UNLABELLED, GroupHeads, HeadTraining, _split, fit_group_heads

STEPS, N, D = 3, 150, 60
GROUPS = {"gender": ("female", "male"), "age": ("young", "adult", "old")}


def planted(strength=3.0, seed=0):
    """Maps with features of different scale and mean; each group of each attribute has a direction at each step."""
    generator = torch.Generator().manual_seed(seed)
    labels = {name: torch.randint(len(of), (N,), generator=generator) for name, of in GROUPS.items()}
    features = torch.randn(STEPS, N, D, generator=generator)
    for name, of in GROUPS.items():
        directions = F.normalize(torch.randn(STEPS, len(of), D, generator=generator), dim=-1)
        features += strength * directions[:, labels[name]]
    scale = torch.logspace(-1, 1, D)
    return features * scale + 5 * scale, labels


@pytest.fixture(scope="module")
def fitted():
    features, labels = planted()
    return features, labels, *fit_group_heads(features, labels, GROUPS)


def test_heads_separate_planted_directions(fitted):
    _, _, _, accuracy = fitted
    assert min(accuracy.per_step["gender"]) > 0.9
    assert min(accuracy.per_step["age"]) > 0.8
    assert all(abs(n - 0.2 * N) <= 1 for n in accuracy.n.values())


def test_heads_find_nothing_without_planted_directions():
    features, labels = planted(strength=0.0)
    _, accuracy = fit_group_heads(features, labels, GROUPS)
    assert sum(accuracy.per_step["gender"]) / STEPS < 0.7


def test_folded_weights_classify_raw_maps(fitted):
    features, labels, heads, _ = fitted
    maps = features[1].reshape(N, 15, 2, 2)
    predicted = heads.logits("age", 1, maps).argmax(1)
    assert (predicted == labels["age"]).float().mean() > 0.9


def test_fit_is_the_minimum_of_the_penalised_cross_entropy():
    features, labels = planted()
    settings = HeadTraining(l2=0.01)
    heads, _ = fit_group_heads(features, {"age": labels["age"]}, {"age": GROUPS["age"]}, settings)
    x = (features[0] - features[0].mean(0)) / features[0].std(0) / D**0.5
    weight = (heads.weights["age"][0] * features[0].std(0) * D**0.5).double().requires_grad_()
    bias = (heads.biases["age"][0] + heads.weights["age"][0] @ features[0].mean(0)).double().requires_grad_()
    train, _ = _split(labels["age"], settings)
    loss = F.cross_entropy(x[train].double() @ weight.T + bias, labels["age"][train])
    loss = loss + 0.005 * (weight.square().sum() + bias.square().sum())
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, (weight, bias))])
    assert gradient.norm() < 1e-4


def test_unlabelled_samples_are_ignored():
    features, labels = planted()
    hidden = labels["gender"].clone()
    hidden[:50] = UNLABELLED
    spoiled = {"gender": hidden}
    _, accuracy = fit_group_heads(features, spoiled, {"gender": GROUPS["gender"]})
    assert abs(accuracy.n["gender"] - 0.2 * (N - 50)) <= 1
    assert min(accuracy.per_step["gender"]) > 0.7


def test_same_data_gives_the_same_heads(fitted):
    features, labels, heads, _ = fitted
    again, _ = fit_group_heads(features, labels, GROUPS)
    assert all(torch.equal(again.weights[name], heads.weights[name]) for name in GROUPS)


def test_saved_heads_can_be_loaded(fitted, tmp_path):
    features, _, heads, _ = fitted
    heads.save(tmp_path)
    loaded = GroupHeads.load(tmp_path)
    assert loaded.groups == GROUPS
    assert loaded.steps == STEPS
    for name in GROUPS:
        torch.testing.assert_close(
            loaded.logits(name, 2, features[2]), heads.logits(name, 2, features[2]), atol=2e-2, rtol=2e-2
        )


def test_half_precision_keeps_weights_far_below_its_smallest_number(tmp_path):
    weight = torch.randn(1, 2, 5, generator=torch.Generator().manual_seed(0)) * 1e-9
    GroupHeads({"gender": ("female", "male")}, {"gender": weight}, {"gender": torch.zeros(1, 2)}).save(tmp_path)
    torch.testing.assert_close(GroupHeads.load(tmp_path).weights["gender"], weight, atol=0, rtol=2e-3)


def test_maps_of_another_model_are_refused(fitted):
    with pytest.raises(ValueError, match="60 numbers, found 12"):
        fitted[2].logits("gender", 0, torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(N, dtype=torch.long), "at least 2 samples of every group, found {'male': 0}"),
        (torch.full((N,), 2), "found 150 others"),
        (torch.zeros(3, dtype=torch.long), "one label for each of 150"),
    ],
)
def test_labels_that_cannot_be_fitted_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        fit_group_heads(torch.zeros(1, N, D), {"gender": labels}, {"gender": GROUPS["gender"]})
