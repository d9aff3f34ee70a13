"""H-Distribution takes one step down the gradient of −log p of the image's group, image by image."""

import pytest
import torch

from audit.mitigate.method import Batch
from tests.mitigate.trained.fits import PROMPTS, STEPS, audit_of, fitted, ready, tools_of

GROUPS = ("young", "adult", "old")


@pytest.fixture(scope="module")
def fit(tiny_pipeline):
    audit = audit_of(tiny_pipeline, "h_distribution", "age", hookpoints=("mid_block", "conv_in"))
    tools = tools_of(audit)
    return tools, *fitted(audit, tools)


def heads(tensors, path, step):
    rows = [(tensors[f"{path}/{group}/weight"][step], tensors[f"{path}/{group}/bias"][step]) for group in GROUPS]
    return torch.stack([weight for weight, _ in rows]), torch.stack([bias for _, bias in rows])


@pytest.mark.parametrize("path", ["mid_block", "conv_in"])
def test_the_edit_is_a_step_down_the_gradient_that_autograd_finds(fit, path, tmp_path):
    _, request, _, trained = fit
    size, temperature, assigned = 50.0, 3.0, ("old", "young", "old")
    mitigation = request.mitigation.model_copy(update={"strength": size, "temperature": temperature})
    arm = ready(mitigation, trained.tensors, tmp_path)(Batch(PROMPTS[0], assigned, STEPS, ""))
    side = {"mid_block": (16, 4, 4), "conv_in": (8, 8, 8)}[path]
    for step in range(STEPS):
        h = torch.randn(3, *side, generator=torch.Generator().manual_seed(step)).requires_grad_()
        weights, biases = heads(trained.tensors, path, step)
        logits = h.flatten(1) @ weights.T + biases
        wanted = torch.tensor([GROUPS.index(group) for group in assigned])
        loss = torch.nn.functional.cross_entropy(logits / temperature, wanted, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, h)
        assert gradient.abs().max() > 0
        torch.testing.assert_close(arm.edits[path](step, h.detach()), h.detach() - size * gradient)


def test_the_step_raises_the_probability_of_the_group(fit, tmp_path):
    _, request, examples, trained = fit
    mitigation = request.mitigation.model_copy(update={"strength": 1.0, "temperature": 1.0})
    arm = ready(mitigation, trained.tensors, tmp_path)(Batch(PROMPTS[0], ("old",), STEPS, ""))
    h = examples[0][1]["mid_block/young"][0, :1].float().view(1, 16, 4, 4)
    weights, biases = heads(trained.tensors, "mid_block", 0)

    def probability(map_):
        return float((map_.flatten(1) @ weights.T + biases).softmax(1)[0, GROUPS.index("old")])

    assert probability(arm.edits["mid_block"](0, h)) > probability(h)


def test_the_heads_know_the_groups_of_their_own_images(fit):
    _, request, examples, trained = fit
    for row, group in enumerate(request.groups):
        weights, biases = heads(trained.tensors, "mid_block", STEPS - 1)
        maps = torch.cat([own[f"mid_block/{group}"][STEPS - 1] for _, own in examples]).float()
        assert ((maps @ weights.T + biases).argmax(1) == row).float().mean() > 0.6
    assert 0 <= trained.report["held_out_accuracy_mid_block"] <= 1


def test_maps_that_are_not_finite_are_refused(fit):
    tools, request, examples, _ = fit
    from audit.mitigate.trained.h_distribution import HDistributionFit

    spoiled = [(prompt, {name: maps * float("nan") for name, maps in own.items()}) for prompt, own in examples]
    with pytest.raises(ValueError, match="expected finite maps, found NaN"):
        HDistributionFit().train(tools, request, spoiled, None)
