"""Entanglement-free attention (EFA, Park et al. 2025): a group is added to the attention of positions that show a face.

The attention of some layers has one more value for each group, :mod:`group_attention`. What predicts its weight w is
trained on images that were sampled with group a named, and noised to x_t, with two prompts (section 3 of the paper):

    L = E ‖M ⊙ (ε − ε_θ(x_t, t, p_b; w_a))‖²  +  λ₁ |w_a(x_t, p_a)|₁  +  λ₂ |(1 − M̄) ⊙ w_a(x_t, p_b)|₁,

p_a the prompt that names a, p_b one that names another group, M the mask of what may change, M̄ the mask at the size of
a layer. So the group is added in the mask where another group was asked for, and nowhere else. The mask is used by the
training alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from audit.config.mitigations.trained import EntanglementFreeAttentionConfig
from audit.config.problems import listing
from audit.dissect.lens import Lens
from audit.mitigate.fitted_tensors import fitted_tensors
from audit.mitigate.method import Batch, Examples, Fit, Intervene, Trained, TrainedFit
from audit.mitigate.tools import FitTools
from audit.mitigate.trained.group_attention import AttentionPredictor, GroupAttention, Layer, MapEdit, layers_of
from audit.mitigate.training import Checkpoint, Schedule, gradients_of, optimise, tenths
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.intervention import Edit, Intervention
from audit.models.trainable.model import TrainableModel
from audit.planning.fits import FitRequest
from audit.planning.plan import group_text, text_naming, window_of
from audit.records.work import Prompt, derive_seed

# B images, G groups, c h w the latents, H W the map of a layer, T = H W positions, D width of the text

METHOD = "entanglement_free_attention"
LATENTS, MASK = "latents", "mask"
_INSIDE = ".transformer_blocks."
_DECODER = "up_blocks"
_TRIALS = 64
"""Images of the figures on the card."""


class EntanglementFreeAttention:
    """Extends cross-attention by a value for the group of each image."""

    def __init__(self) -> None:
        self.fit: Fit | TrainedFit | None = EntanglementFreeAttentionFit()

    def ready(self, mitigation: EntanglementFreeAttentionConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Load what predicts the attention.

        Raises:
            ValueError: If no fit is given, or its file cannot be read.
        """
        layers = layers_of(fitted_tensors(mitigation.name, fitted))

        def intervene(batch: Batch) -> Intervention:
            window = window_of(mitigation.window, batch.steps)
            edits: dict[str, Edit] = {}
            if mitigation.strength != 0:
                codes = [batch.groups.index(group) for group in batch.assigned]
                for path, layer in layers.items():
                    own = GroupAttention(path, layer, codes, mitigation.strength).edits
                    edits |= {place: _at_every_step(edit) for place, edit in own.items()}
            return Intervention(batch.assigned, window, mitigation.reverse_step, edits=edits)

        return intervene


class EntanglementFreeAttentionFit:
    """Samples images that name a group, finds what may change in them, and trains what predicts the attention."""

    def examples(self, tools: FitTools, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Return latents ``(n, c, h, w)`` and masks ``(n, h, w)`` in [0, 1] of the images of each group.

        Raises:
            UnfitModelError: The modules of the config have no cross-attention; nothing is sampled then.
        """
        section, batch, found = _section(request), request.sampling.batch, dict[str, Tensor]()
        cross_attention(tools.generator.denoiser, section.layers)
        seeds = [derive_seed(METHOD, prompt.id, i) for i in range(section.images_per_group)]
        for group in request.groups:
            text = text_naming(section, group, request.template, prompt)
            latents, masks = list[Tensor](), list[Tensor]()
            for start in range(0, len(seeds), batch):
                own = seeds[start : start + batch]
                latents.append(tools.generator.latents([text] * len(own), own))
                shown = tools.outside().shown(tools.generator.decode(latents[-1]))
                masks.append(_pooled(1 - shown.float(), latents[-1].shape[2:]))
            found |= {f"{LATENTS}/{group}": torch.cat(latents).cpu(), f"{MASK}/{group}": torch.cat(masks)}
        return found

    def train(self, tools: FitTools, request: FitRequest, examples: Examples, checkpoint: Checkpoint) -> Trained:
        """Return the extension of each layer.

        Raises:
            ValueError: No image of a group shows what may change, or the model cannot be trained.
        """
        section, drawn = _section(request), DrawnExamples.of(examples, request)
        layers = new_layers(tools, request, examples[0][0], drawn)
        training = Training(tools.model, section, drawn, layers)
        parameters = {
            f"{path}/{name}": weight
            for path, layer in layers.items()
            for name, weight in layer.predictor.named_parameters()
        }
        schedule = Schedule(section.name, section.steps, section.learning_rate)
        with tools.model.frozen():
            losses = optimise(
                parameters, lambda step: gradients_of(training.terms(step).loss, parameters), schedule, checkpoint
            )
            figures = training.figures()
        tensors = {name: tensor for path, layer in layers.items() for name, tensor in layer.tensors(path).items()}
        return Trained({name: tensor.detach().cpu() for name, tensor in tensors.items()}, tenths(losses) | figures)


@dataclass(frozen=True)
class ExampleBatch:
    """Images for one step of the training.

    Attributes:
        latents: ``(B, c, h, w)``.
        masks: M, ``(B, h, w)``.
        codes: a, the group that each image was sampled with.
        own: Prompts that name this group.
        others: Prompts that name another group.
        generator: Draws timesteps and noise.
    """

    latents: Tensor
    masks: Tensor
    codes: tuple[int, ...]
    own: tuple[str, ...]
    others: tuple[str, ...]
    generator: torch.Generator

    def parts(self, size: int) -> Iterator[ExampleBatch]:
        """Yield the images in order, at most ``size`` at a time."""
        for start in range(0, len(self.latents), size):
            rows = slice(start, start + size)
            yield ExampleBatch(
                self.latents[rows],
                self.masks[rows],
                self.codes[rows],
                self.own[rows],
                self.others[rows],
                self.generator,
            )


@dataclass(frozen=True)
class DrawnExamples:
    """All images of a training, N of each group, prompt by prompt.

    Attributes:
        latents: ``(G, N, c, h, w)``.
        masks: ``(G, N, h, w)``.
        texts: For each group, the N prompts that name it.
    """

    latents: Tensor
    masks: Tensor
    texts: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, examples: Examples, request: FitRequest) -> DrawnExamples:
        """Join the examples of all prompts.

        Raises:
            ValueError: No image of a group shows what may change.
        """
        latents, masks = (
            torch.stack(
                [torch.cat([own[f"{kind}/{group}"] for _, own in examples]).float() for group in request.groups]
            )
            for kind in (LATENTS, MASK)
        )
        for group, own in zip(request.groups, masks, strict=True):
            if not bool(own.any()):
                raise ValueError(
                    f"expected images of {group!r} that show a part in quality.outside.hidden, found none; name other "
                    "parts, or give the segmenter other texts or a lower threshold"
                )
        count = len(next(iter(examples[0][1].values())))
        texts = tuple(
            tuple(
                text_naming(_section(request), group, request.template, prompt)
                for prompt, _ in examples
                for _ in range(count)
            )
            for group in request.groups
        )
        return cls(latents, masks, texts)

    def batch(self, step: int, size: int) -> ExampleBatch:
        """Draw the images of a step; the groups take turns over the rows, other groups are drawn."""
        generator = torch.Generator().manual_seed(derive_seed(METHOD, "step", step))
        groups, count = self.masks.shape[:2]
        codes = [(step * size + row) % groups for row in range(size)]
        places = torch.randint(count, (size,), generator=generator).tolist()
        shifts = torch.randint(1, groups, (size,), generator=generator).tolist()
        others = [(code + shift) % groups for code, shift in zip(codes, shifts, strict=True)]
        return ExampleBatch(
            self.latents[codes, places],
            self.masks[codes, places],
            tuple(codes),
            tuple(self.texts[code][place] for code, place in zip(codes, places, strict=True)),
            tuple(self.texts[code][place] for code, place in zip(others, places, strict=True)),
            generator,
        )


@dataclass(frozen=True)
class Terms:
    """Loss of a batch, and the attention to the groups that is in it, as means over layers, heads and positions.

    Attributes:
        loss: L.
        present: w where the prompt names the group.
        outside: (1 − M̄) w where it names another.
        inside: M̄ w there.
    """

    loss: Tensor
    present: Tensor
    outside: Tensor
    inside: Tensor


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        model: The model.
        section: Its settings.
        drawn: All images.
        layers: What is trained, by the address of the attention.
    """

    model: TrainableModel
    section: EntanglementFreeAttentionConfig
    drawn: DrawnExamples
    layers: Mapping[str, Layer]

    def terms(self, step: int) -> Terms:
        """Return the loss of a step at random noise levels, uniform over the timesteps."""
        return self.terms_of(self.drawn.batch(step, self.section.batch))

    def terms_of(self, batch: ExampleBatch) -> Terms:
        """Return the loss of some images."""
        count, device = len(batch.latents), self.model.device
        timesteps = torch.randint(self.model.trained_timesteps, (count,), generator=batch.generator).to(device)
        noise = torch.randn(batch.latents.shape, generator=batch.generator).to(device)
        latents, masks = batch.latents.to(device), batch.masks.to(device)
        noisy, target = (of(latents, noise, timesteps) for of in (self.model.levels.noisy, self.model.levels.target))
        attentions = [GroupAttention(path, layer, batch.codes * 2) for path, layer in self.layers.items()]
        edits: dict[str, MapEdit] = {place: edit for one in attentions for place, edit in one.edits.items()}
        texts = (*batch.own, *batch.others)
        predicted = self.model.predict(noisy.repeat(2, 1, 1, 1), timesteps.repeat(2), texts, edits)[count:]
        error = (masks[:, None] * (target - predicted)).square().mean()
        present, outside, inside = self._attention(attentions, masks)
        loss = error + self.section.present_weight * present + self.section.outside_weight * outside
        return Terms(loss, present, outside, inside)

    def _attention(self, attentions: Sequence[GroupAttention], masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        present, outside, inside = [], [], []
        for one, layer in zip(attentions, self.layers.values(), strict=True):
            own, others = one.attention.chunk(2)
            shown = _pooled(masks, layer.size).flatten(1)[:, None]  # (B, 1, T)
            present.append(own.mean())
            outside.append(((1 - shown) * others).mean())
            inside.append((shown * others).mean())
        return torch.stack(present).mean(), torch.stack(outside).mean(), torch.stack(inside).mean()

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """Return the mean attention to the groups at noise that no step drew, for the card."""
        sums = dict.fromkeys(("present", "outside_mask", "inside_mask"), 0.0)
        for part in self.drawn.batch(self.section.steps, _TRIALS).parts(self.section.batch):
            found = self.terms_of(part)
            for name, mean in zip(sums, (found.present, found.outside, found.inside), strict=True):
                sums[name] += float(mean) * len(part.latents) / _TRIALS
        return {f"attention_{name}": round(mean, 4) for name, mean in sums.items()}


def new_layers(tools: FitTools, request: FitRequest, prompt: Prompt, drawn: DrawnExamples) -> dict[str, Layer]:
    """Return the layers before the training.

    Raises:
        UnfitModelError: The modules of the config have no cross-attention.
    """
    section, model, denoiser = _section(request), tools.model, tools.generator.denoiser
    texts = [group_text(section, group, request.template, prompt) for group in request.groups]
    embedded = torch.stack([tools.generator.from_last_token(text)[0] for text in texts]).to(model.device, model.dtype)
    noisy, layers = drawn.latents[0, :1].to(model.device), dict[str, Layer]()
    paths = cross_attention(denoiser, section.layers)
    sizes = {  # a call of the denoiser for each module
        module: model.map_shape(module, noisy, prompt.text)[1:] if module else model.token_grid(noisy)
        for module in dict.fromkeys(map(_map_around, paths))
    }
    for path in paths:
        attention: Any = denoiser.get_submodule(path)
        size = sizes[_map_around(path)]
        with torch.no_grad():
            values = attention.to_v(embedded).float().clone()
        seed = derive_seed(METHOD, path)
        predictor = AttentionPredictor(attention.to_q.in_features, section.width, len(texts), seed).to(model.device)
        layers[path] = Layer(attention.heads, (size[0], size[1]), values, predictor)
    return layers


def cross_attention(denoiser: nn.Module, modules: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses of the cross-attention in some modules, or in the first block of the decoder that has some.

    Raises:
        UnfitModelError: A module has none.
    """
    paths = [
        path
        for path, one in denoiser.named_modules()
        if _INSIDE in f".{path}" and getattr(one, "is_cross_attention", False)
    ]
    decoder = [path for path in paths if path.startswith(f"{_DECODER}.")]
    if not modules and decoder:
        first = ".".join(decoder[0].split(".")[:2])
        return tuple(path for path in decoder if path.startswith(f"{first}."))
    for module in modules or (_DECODER,):
        if not any(_is_in(module, path) for path in paths):
            holders = dict.fromkeys(_map_around(path) or path.rpartition(".")[0] for path in paths)
            known = listing(holders) or "none"
            raise UnfitModelError(
                f"{METHOD} extends cross-attention: expected some in {module!r} of the {type(denoiser).__name__}, "
                f"found it in {known}; set layers"
            )
    return tuple(path for path in paths if any(_is_in(module, path) for module in modules))


def _map_around(path: str) -> str:
    """Return the module around an attention that returns a map; empty in a transformer, which has tokens alone."""
    return f".{path}".partition(_INSIDE)[0].removeprefix(".")


def _is_in(module: str, path: str) -> bool:
    return path == module or path.startswith(f"{module}.")


def _pooled(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Return masks ``(B, …)`` at another size, each cell the mean of what it covers."""
    pooled: Tensor = adaptive_avg_pool2d(masks[:, None], (size[0], size[1]))[:, 0]
    return pooled


def _at_every_step(edit: MapEdit) -> Edit:
    return lambda _step, h: edit(h)


def _section(request: FitRequest) -> EntanglementFreeAttentionConfig:
    if not isinstance(request.mitigation, EntanglementFreeAttentionConfig):
        raise TypeError(f"expected a section of {METHOD}, found {request.mitigation!r}")
    return request.mitigation
