"""Entanglement-free attention: the extended softmax, what its training asks for, and how it acts on a batch."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler

from audit.config.settings import AuditConfig
from audit.mitigate.method import Batch
from audit.mitigate.trained.entanglement_free_attention import (
    DrawnExamples,
    EntanglementFreeAttentionFit,
    Training,
    cross_attention,
    new_layers,
)
from audit.mitigate.trained.group_attention import (
    AttentionPredictor,
    GroupAttention,
    Layer,
    attention_to_group,
    layers_of,
)
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.hooks import edit_place, find_hookpoint
from audit.records.located.places import Place
from benchmarks.tiny_families import save_pixart
from tests.mitigate.trained.fits import PROMPTS, STEPS, InMemory, audit_of, fitted, ready, tools_of

METHOD = "entanglement_free_attention"
DECODER = "up_blocks.0.attentions.{}.transformer_blocks.0.attn2"


@pytest.fixture(scope="module")
def fit(tiny_pipeline):
    audit = audit_of(tiny_pipeline, METHOD, "gender")
    tools = tools_of(audit)
    return tools, *fitted(audit, tools)


def training_of(fit, tensors=None, **settings):
    """A training with the layers of a fit, or with new ones."""
    tools, request, examples, _ = fit
    section = request.mitigation.model_copy(update=settings)
    drawn = DrawnExamples.of(examples, request)
    layers = new_layers(tools, replace(request, mitigation=section), PROMPTS[0], drawn)
    return Training(tools.model, section, drawn, layers_of(tensors) if tensors else layers)


def test_the_attention_to_a_group_by_hand():
    """Keys of equal scores: two tokens with e⁰ and one group with e^ln 2 give ½; the other head has scores ln 3, 0."""
    ln = torch.tensor([2.0, 3.0]).log()
    query = torch.tensor([[[1.0, ln[1]]]])  # two heads of width 1
    key = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    found = attention_to_group(query, key, ln[:1, None], 2, torch.zeros(1, 1, 2))
    torch.testing.assert_close(found, torch.tensor([[[0.5], [2 / 6]]]))
    hidden = attention_to_group(query, key, ln[:1, None], 2, torch.tensor([[[0.0, -10_000.0]]]))
    torch.testing.assert_close(hidden, torch.tensor([[[2 / 3], [2 / 5]]]))


def test_the_edits_are_the_softmax_over_one_more_value():
    """The equation as it is printed, with keys, values and the added column in one softmax, by heads and images."""
    draw = torch.Generator().manual_seed(0)
    batch, heads, width, tokens, (height, breadth), groups = 3, 2, 4, 5, (2, 3), 3
    inner, codes = heads * width, (2, 0, 1)
    predictor = AttentionPredictor(inner, 6, groups, seed=1).requires_grad_(False)
    predictor.out.weight.normal_(generator=draw)
    predictor.out.bias.fill_(1.5)
    layer = Layer(heads, (height, breadth), torch.randn(groups, inner, generator=draw), predictor)
    z, query = (torch.randn(batch, height * breadth, inner, generator=draw) for _ in range(2))
    key, value = (torch.randn(batch, tokens, inner, generator=draw) for _ in range(2))
    mask = torch.randn(batch, 1, tokens, generator=draw)
    expected, own, weights = (torch.zeros(batch, height * breadth, inner) for _ in range(3))
    for image, code in enumerate(codes):
        logits = predictor(z[image].T.reshape(1, inner, height, breadth))[0, code].flatten()
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = query[image, :, part] @ key[image, :, part].T / width**0.5 + mask[image]
            both = torch.cat([value[image, :, part], layer.values[code, part][None]])
            extended = torch.cat([scores, logits[:, None]], 1).softmax(1)
            expected[image, :, part] = extended @ both
            own[image, :, part] = scores.softmax(1) @ value[image, :, part]
            weights[image, :, part] = extended[:, -1:]
    for strength in (1.0, 0.5):
        attention = GroupAttention("attn", layer, codes, strength)
        *reads, change = attention.edits.values()
        for read, seen in zip(reads, (z, query, key, mask), strict=True):
            stored = seen.transpose(1, 2)[..., None]
            assert read(stored) is stored
        found = change(own.transpose(1, 2)[..., None]).squeeze(-1).transpose(1, 2)
        torch.testing.assert_close(found, own + strength * (expected - own))
    torch.testing.assert_close(attention.attention, weights[:, :, ::width].transpose(1, 2))


def test_a_training_begins_near_the_model_and_a_group_that_no_image_has_gets_no_gradient(fit):
    training = training_of(fit)
    for layer in training.layers.values():
        assert not any(bool(weight.any()) for weight in layer.predictor.out.parameters())
    assert float(training.terms(0).present.detach()) < 0.1  # one value beside those of all tokens
    assert training.drawn.batch(0, 1).codes == (0,)
    outs = [layer.predictor.out.weight for layer in training.layers.values()]
    for gradient in torch.autograd.grad(training.terms_of(training.drawn.batch(0, 1)).loss, outs):
        assert bool(gradient[0].any())
        assert not bool(gradient[1].any())


def test_the_reconstruction_counts_the_mask_alone(fit):
    """Its gradient by the prediction is 0 wherever the mask is, and 2 (prediction − target) / n elsewhere."""
    training = training_of(fit, present_weight=0.0, outside_weight=0.0)
    seen = []

    class Watched:
        """The model, whose predictions are kept."""

        def __getattr__(self, name):
            return getattr(training.model, name)

        def predict(self, *arguments):
            prediction = training.model.predict(*arguments).detach().requires_grad_(True)
            seen.append(prediction)
            return prediction

    watched, size = replace(training, model=Watched()), 4
    loss = watched.terms_of(watched.drawn.batch(5, size)).loss
    (gradient,) = torch.autograd.grad(loss, seen)
    masks = watched.drawn.batch(5, size).masks
    assert bool((masks == 0).any())
    assert bool((masks == 1).any())
    assert not bool(gradient[:size].any()), "what a prompt that names the group predicts is not compared"
    changed = gradient[size:].abs().amax(1) > 0
    assert not bool(changed[masks == 0].any())
    assert bool(changed[masks == 1].all())


def test_the_loss_is_the_masked_error_with_another_group_named_and_the_attention_that_must_not_be(fit):
    """Recomputed image by image with hooks of torch, texts from the pipeline itself, and the printed softmax."""
    tools, request, _, trained = fit
    training, size = training_of(fit, trained.tensors, present_weight=0.7, outside_weight=0.3), 3
    found = training.terms_of(training.drawn.batch(9, size))
    batch, unet, pipeline = training.drawn.batch(9, size), tools.generator.denoiser, tools.generator.pipeline
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    times = torch.randint(scheduler.config.num_train_timesteps, (size,), generator=batch.generator)
    noise = torch.randn(batch.latents.shape, generator=batch.generator)
    noisy = scheduler.add_noise(batch.latents, noise, times)
    errors, present, outside = [], [], []
    for row in range(size):
        for text in (batch.own[row], batch.others[row]):
            attentions = [
                GroupAttention(path, layer, batch.codes[row : row + 1]) for path, layer in training.layers.items()
            ]
            held = [
                edit_place(find_hookpoint(unet, Place.parse(place).module), Place.parse(place).kind, edit)
                for one in attentions
                for place, edit in one.edits.items()
            ]
            for one in held:
                one.__enter__()
            embedded = pipeline.encode_prompt(text, "cpu", 1, False)[0]
            with torch.no_grad():
                predicted = unet(noisy[row : row + 1], times[row], encoder_hidden_states=embedded).sample
            for one in held:
                one.__exit__(None, None, None)
            if text == batch.own[row]:
                present.append(torch.stack([one.attention.mean() for one in attentions]).mean())
                continue
            errors.append((batch.masks[row] * (predicted[0] - noise[row])).square().mean())
            shown = [
                torch.nn.functional.adaptive_avg_pool2d(batch.masks[row : row + 1], layer.size).flatten()
                for layer in training.layers.values()
            ]
            pairs = zip(attentions, shown, strict=True)
            outside.append(torch.stack([((1 - mask) * one.attention[0]).mean() for one, mask in pairs]).mean())
    means = [float(torch.stack(one).mean()) for one in (errors, present, outside)]
    assert float(found.loss.detach()) == pytest.approx(means[0] + 0.7 * means[1] + 0.3 * means[2], rel=1e-4)
    assert [float(found.present.detach()), float(found.outside.detach())] == pytest.approx(means[1:], rel=1e-4)
    assert all(f"a {request.groups[code]}" in text for code, text in zip(batch.codes, batch.own, strict=True))
    assert all(f"a {request.groups[code]}" not in text for code, text in zip(batch.codes, batch.others, strict=True))


def test_three_groups_are_contrasted_with_each_other(tiny_pipeline):
    audit = audit_of(tiny_pipeline, METHOD, "age")
    request, examples, trained = fitted(audit, tools_of(audit))
    texts = DrawnExamples.of(examples, request).batch(0, 60)
    others = {(code, text.split()[5]) for code, text in zip(texts.codes, texts.others, strict=True)}
    groups = request.groups
    assert others == {(code, other) for code in range(len(groups)) for other in groups if other != groups[code]}
    assert all(layer.values.shape[0] == len(groups) for layer in layers_of(trained.tensors).values())


def test_a_longer_training_lowers_the_masked_error(fit):
    tools, request, examples, _ = fit
    settings = {"steps": 40, "batch": 8, "learning_rate": 0.02, "present_weight": 0.0, "outside_weight": 0.0}
    trials = settings | {"batch": 64}
    longer = replace(request, mitigation=request.mitigation.model_copy(update=settings))
    trained = EntanglementFreeAttentionFit().train(tools, longer, examples, InMemory())
    with torch.no_grad():
        before, after = (
            float(training_of(fit, tensors, **trials).terms(10_000).loss) for tensors in (None, trained.tensors)
        )
    assert after < before


def test_an_interrupted_training_ends_as_one_without_a_break(fit):
    tools, request, examples, _ = fit
    request = replace(request, mitigation=request.mitigation.model_copy(update={"steps": 60, "batch": 1}))
    whole = EntanglementFreeAttentionFit().train(tools, request, examples, InMemory())

    class Breaking(InMemory):
        def write(self, state):
            super().write(state)
            raise KeyboardInterrupt

    kept = Breaking()
    with pytest.raises(KeyboardInterrupt):
        EntanglementFreeAttentionFit().train(tools, request, examples, kept)
    checkpoint = InMemory()
    checkpoint.state = kept.state
    resumed = EntanglementFreeAttentionFit().train(tools, request, examples, checkpoint)
    assert all(torch.equal(tensor, resumed.tensors[name]) for name, tensor in whole.tensors.items())
    assert resumed.report == whole.report


def test_the_weights_keep_attention_away(fit):
    tools, request, examples, _ = fit
    figures = []
    for weight in (0.0, 10.0):
        settings = {"steps": 40, "learning_rate": 0.02, "present_weight": weight, "outside_weight": weight}
        one = replace(request, mitigation=request.mitigation.model_copy(update=settings))
        figures.append(EntanglementFreeAttentionFit().train(tools, one, examples, InMemory()).report)
    free, held = figures
    assert held["attention_present"] < free["attention_present"]
    assert held["attention_outside_mask"] < free["attention_outside_mask"]


def test_the_layers_are_those_of_the_first_block_of_the_decoder_or_of_the_modules_that_are_named(fit):
    unet = fit[0].generator.denoiser
    decoder = tuple(DECODER.format(number) for number in range(2))
    assert cross_attention(unet, ()) == decoder
    middle = "mid_block.attentions.0.transformer_blocks.0.attn2"
    assert set(cross_attention(unet, ("mid_block", "up_blocks.0.attentions.1"))) == {middle, decoder[1]}
    assert cross_attention(unet, (middle,)) == (middle,)
    with pytest.raises(UnfitModelError, match=r"expected some in 'conv_in' .* found it in down_blocks.1.attentions.0"):
        cross_attention(unet, ("mid_block", "conv_in"))


@pytest.fixture(scope="module")
def pixart(tmp_path_factory):
    """PixArt with latents of 8 × 12 in 4 × 6 tokens, its config and what it is fitted with."""
    root = tmp_path_factory.mktemp("pixart")
    audit = audit_of(save_pixart(root, sample_size=8, tokens=24), METHOD, "gender", layers=["transformer_blocks.1"])
    sampling = audit.sampling.model_copy(update={"height": 64, "width": 96})
    audit = audit.model_copy(update={"sampling": sampling})
    tools = tools_of(audit)
    return tools, *fitted(audit, tools)


def test_positions_of_a_transformer_are_the_grid_of_its_tokens(pixart):
    training, denoiser = training_of(pixart), pixart[0].generator.denoiser
    assert list(training.layers) == ["transformer_blocks.1.attn2"]
    assert training.layers["transformer_blocks.1.attn2"].size == (4, 6)
    assert all(masks.shape[1:] == (8, 12) for masks in training.drawn.masks)
    with pytest.raises(UnfitModelError, match=r"some in 'up_blocks' .* found it in transformer_blocks.0, "):
        cross_attention(denoiser, ())


def test_attention_of_a_transformer_leaves_out_tokens_that_its_mask_hides(pixart, tmp_path):
    """The printed softmax over the tokens of the prompt alone, in a call of the network."""
    tools, request, _, trained = pixart
    (path, layer), *_ = layers_of(trained.tensors).items()
    one, network, seen = GroupAttention(path, layer, [0]), tools.generator.denoiser, {}
    attention = network.get_submodule(path)
    for name in ("to_q", "to_k"):
        module = attention.get_submodule(name)
        module.register_forward_hook(lambda _module, _inputs, output, name=name: seen.update({name: output[-1:]}))
    inputs = attention.register_forward_pre_hook(lambda _module, inputs: seen.update(z=inputs[0][-1:]))
    with torch.no_grad():
        noisy = tools.model.initial_noise(PROMPTS[0].text, [1])
        tools.model.predict(noisy, torch.tensor([500]), [PROMPTS[0].text], one.edits)
    inputs.remove()
    tokens = tools.generator.reader.count(PROMPTS[0].text)
    assert tokens < seen["to_k"].shape[1]
    logits = layer.predictor(seen["z"].transpose(1, 2).reshape(1, -1, *layer.size))[:, 0].flatten(1)
    shown, none = seen["to_k"][:, :tokens], torch.zeros(1, 1, tokens)
    expected = attention_to_group(seen["to_q"], shown, logits, layer.heads, none)
    torch.testing.assert_close(one.attention, expected)
    batch = Batch(PROMPTS[0], ("female", "male"), STEPS, "", request.groups)
    arm = ready(request.mitigation.model_copy(update={"strength": 100.0}), trained.tensors, tmp_path)(batch)
    plain = tools.generator.generate(PROMPTS[0], [1, 2])
    assert not torch.equal(tools.generator.generate(PROMPTS[0], [1, 2], arm), plain)


def test_layers_without_cross_attention_are_refused_before_any_image_is_sampled(fit):
    tools, request, _, _ = fit
    without = replace(request, mitigation=request.mitigation.model_copy(update={"layers": ("conv_in",)}))
    unused = replace(tools, generator=SimpleNamespace(denoiser=tools.generator.denoiser))
    with pytest.raises(UnfitModelError, match="expected some in 'conv_in'"):
        EntanglementFreeAttentionFit().examples(unused, without, PROMPTS[0])


def test_no_call_has_more_rows_than_the_batch_asks_for(fit):
    """Two texts of each image; the figures on the card are means over all images."""
    training, rows = training_of(fit, batch=5), []
    handle = fit[0].generator.denoiser.conv_in.register_forward_hook(lambda _own, into, _out: rows.append(len(into[0])))
    try:
        figures = training.figures()
    finally:
        handle.remove()
    assert set(rows[:-1]) == {10}
    assert sum(rows) == 2 * 64
    drawn = training.drawn.batch(training.section.steps, 64)
    terms = [(len(part.codes), training.terms_of(part)) for part in drawn.parts(5)]
    mean = sum(count * float(found.present.detach()) for count, found in terms) / 64
    assert figures["attention_present"] == pytest.approx(mean, abs=1e-4)


def test_images_without_the_parts_that_may_change_are_refused(fit):
    _, request, examples, _ = fit
    none = [(prompt, {key: tensor * (key != "mask/male") for key, tensor in own.items()}) for prompt, own in examples]
    with pytest.raises(ValueError, match=r"expected images of 'male' that show a part in quality.outside.hidden"):
        DrawnExamples.of(none, request)


def test_two_arms_of_one_attention_act_one_after_the_other(fit, tmp_path):
    """A joint arm of two attributes: the second extends what the first has made, from the same queries and keys."""
    tools, request, _, trained = fit
    strong = request.mitigation.model_copy(update={"strength": 300.0})  # so that pixels of a random network show it
    arm = ready(strong, trained.tensors, tmp_path)
    batch = Batch(PROMPTS[0], ("female", "male"), STEPS, "", request.groups)
    one, other = arm(batch), arm(replace(batch, assigned=("male", "female")))
    both = tools.generator.generate(PROMPTS[0], [1, 2], replace(one, beside=(other,)))
    assert not torch.equal(both, tools.generator.generate(PROMPTS[0], [1, 2], one))
    none = ready(request.mitigation.model_copy(update={"strength": 0}), trained.tensors, tmp_path)(batch)
    assert not none.edits


def test_a_config_without_a_segmenter_is_refused():
    keys = {"name": "a", "mitigations": [{"name": "m", "method": METHOD, "attribute": "gender"}]}
    with pytest.raises(ValueError, match=r"expected a segmenter of what entanglement_free_attention may change"):
        AuditConfig(**keys)
    AuditConfig(**keys, quality={"outside": {}})
