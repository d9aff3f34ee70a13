"""Latent Editing follows the asymmetric run of the sampler, and its losses are those of the papers."""

import math

import pytest
import torch

from audit.config.mitigations.trained import LatentEditingConfig
from audit.mitigate.trained.asymmetric_run import AsymmetricRun, Guided
from audit.mitigate.trained.bottleneck_function import BottleneckFunction
from audit.mitigate.trained.latent_editing import TIMES, Training, directional_loss
from audit.mitigate.training import Schedule, gradients_of, optimise
from audit.models.intervention import Intervention
from tests.mitigate.trained.fits import PROMPTS, STEPS, InMemory, audit_of, fitted, ready, tools_of

SEEDS = [4, 5]
TEXTS = [prompt.text for prompt in PROMPTS]


@pytest.fixture(scope="module")
def fit(tiny_pipeline):
    audit = audit_of(tiny_pipeline, "latent_editing", "gender", window=(0.0, 1.0))
    tools = tools_of(audit)
    return tools, *fitted(audit, tools)


@pytest.mark.parametrize("first", [0, 1])
def test_the_run_of_the_training_ends_where_the_sampler_ends(fit, first):
    """The sampler takes diffusers' steps and moves them; the training computes both terms itself."""
    tools = fit[0]
    generator, model = tools.generator, tools.model
    shape = model.map_shape("mid_block", model.initial_noise(TEXTS[0], [0]), TEXTS[0])
    shift = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    edit = Intervention(("a", "b"), range(first, STEPS), "asymmetric", edits={"mid_block": lambda _step, h: h + shift})
    seen = []

    def keep(_step, prediction):
        seen.append(prediction)
        return prediction

    run = AsymmetricRun(
        Guided(model, 2.0, TEXTS), "mid_block", lambda h, _time: h + shift, model.initial_noise(TEXTS[0], SEEDS)
    )
    with torch.no_grad():
        run.skip_to(first)
        for step in range(first, STEPS):
            edited, unedited = run.step(step)
    stock = generator.sample(TEXTS, SEEDS, edit)
    plain = generator.sample(TEXTS, SEEDS)
    assert not torch.equal(stock, plain)
    ends = {"edited": run._edited, "unedited": run._unedited}
    for name, pictures in (("edited", stock), ("unedited", plain)):
        difference = model.pictures(ends[name]).mul(255).round() - pictures
        assert difference.abs().max() <= 1, name
    assert edited.shape == unedited.shape


def test_the_function_is_that_of_the_paper():
    function = BottleneckFunction(8, 6, seed=3)
    h, time = torch.randn(2, 8, 3, 3), torch.randn(2, 6)
    with torch.no_grad():
        activated = time / (1 + (-time).exp())
        hidden = torch.einsum("oi,bihw->bohw", function.into.weight[:, :, 0, 0], h) + function.into.bias[:, None, None]
        hidden = hidden + (activated @ function.time.weight.T + function.time.bias)[:, :, None, None]
        groups = hidden.reshape(2, 8, 1, 9)  # gcd(32, 8) = 8 groups of one channel
        hidden = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
        hidden = hidden.reshape(2, 8, 3, 3)
        hidden = hidden / (1 + (-hidden).exp())
        expected = torch.einsum("oi,bihw->bohw", function.out.weight[:, :, 0, 0], hidden)
        torch.testing.assert_close(function(h, time), expected + function.out.bias[:, None, None])


def test_the_directional_loss_is_small_along_the_texts_and_large_against_them():
    unedited, texts = torch.zeros(3, 2), torch.tensor([[1.0, 0.0]] * 3)
    edited = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    along, across, against = directional_loss(edited, unedited, texts).tolist()
    assert along == pytest.approx(0, abs=1e-5)
    assert across == pytest.approx(-math.log(1 / 2), abs=1e-5)
    assert against > 10


def test_the_weights_of_both_losses_count(fit):
    tools, request, examples, _ = fit

    def loss(**weights):
        changed = type(request)(request.mitigation.model_copy(update=weights), *request_parts(request))
        return float(Training(tools, changed, examples).loss(0))

    both = loss()
    only_clip, only_change = loss(reconstruction_weight=0.0), loss(clip_weight=0.0)
    assert min(only_clip, only_change) > 0
    assert both == pytest.approx(only_clip + only_change, rel=1e-4)


def request_parts(request):
    return request.groups, request.template, request.sampling


def test_an_interrupted_training_ends_like_one_without_a_break(fit):
    tools, request, examples, whole = fit
    training, checkpoint = Training(tools, request, examples), InMemory()
    parameters = {
        f"{group}/{name}": weight
        for group, function in training.functions.items()
        for name, weight in function.named_parameters()
    }

    def until_the_fifth(step):
        if step == STEPS + 1:
            raise KeyboardInterrupt
        return gradients_of(training.loss(step), parameters)

    with pytest.raises(KeyboardInterrupt), tools.model.frozen():
        optimise(parameters, until_the_fifth, Schedule("t", 2 * STEPS, 0.001, save_every=STEPS), checkpoint)
    audit = audit_of("unused", "latent_editing", "gender", window=(0.0, 1.0))
    assert audit.mitigations[0].fitted_by == request.mitigation.fitted_by
    from audit.mitigate.trained.latent_editing import LatentEditingFit

    resumed = LatentEditingFit().train(tools, request, examples, checkpoint)
    for name, tensor in whole.tensors.items():
        assert torch.equal(resumed.tensors[name], tensor), name


def test_each_image_gets_the_change_of_its_group_at_each_step(fit, tmp_path):
    _, request, _, trained = fit
    from audit.mitigate.method import Batch

    arm = ready(request.mitigation.model_copy(update={"strength": 2.0}), trained.tensors, tmp_path)(
        Batch(PROMPTS[0], ("male", "female"), STEPS, "")
    )
    assert arm.reverse_step == "asymmetric"
    channels = len(trained.tensors["male/out.bias"])
    h = torch.randn(2, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    for step in range(STEPS):
        for row, group in enumerate(("male", "female")):
            function = BottleneckFunction(channels, trained.tensors[TIMES].shape[1], 0)
            function.load_state_dict(
                {n.removeprefix(f"{group}/"): t for n, t in trained.tensors.items() if n.startswith(f"{group}/")}
            )
            with torch.no_grad():
                expected = h[row] + 2 * function(h[row][None], trained.tensors[TIMES][step][None])[0]
            torch.testing.assert_close(arm.edits["mid_block"](step, h)[row], expected)


def test_the_window_decides_the_training():
    settings = {"name": "m", "method": "latent_editing", "attribute": "gender", "passes": 3}
    whole, half = (LatentEditingConfig(**settings, window=window) for window in ((0.0, 1.0), (0.0, 0.5)))
    assert (whole.training_steps(25), half.training_steps(25)) == (75, 39)
    assert whole.fitted_by != half.fitted_by
