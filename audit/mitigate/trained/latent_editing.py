"""Latent Editing (Asyrp): a small network per group makes a change of the map, which moves the predicted image alone.

Each optimiser step follows a batch of images by one denoising step of Kwon et al. 2023, eq. 6,
x_{t−1} = √ᾱ_{t−1} P_t(h + Δh) + √(1−ᾱ_{t−1}) D_t(h), and takes the loss at P_t, the predicted image:
L = λ_clip · −log((2 − L_dir) / 2) + λ_recon · cos(E_T(y_ref), E_T(y_source)) · |P_t(h + Δh) − P_t of the unedited run|,
with L_dir = 1 − cos(E_I(P_t) − E_I(x₀), E_T(y_ref) − E_T(y_source)), x₀ the unedited picture, y_source the prompt and
y_ref the prompt with the group named. Logarithm and factor of the second term are those of the authors' program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from audit.config.mitigations.trained import LatentEditingConfig
from audit.dissect.lens import Lens
from audit.mitigate.fitted_tensors import fitted_tensors
from audit.mitigate.method import Batch, Examples, Fit, Intervene, Trained, TrainedFit
from audit.mitigate.tools import FitTools
from audit.mitigate.trained.asymmetric_run import AsymmetricRun, Guided
from audit.mitigate.trained.bottleneck_function import BottleneckFunction
from audit.mitigate.training import Checkpoint, Schedule, gradients_of, optimise, tenths
from audit.models.intervention import Intervention
from audit.planning.fits import FitRequest
from audit.planning.plan import text_naming, window_of
from audit.records.work import Prompt, derive_seed

# S steps, B images, C H W the map, c h w the latents, E width of CLIP, D width of the time embedding

METHOD = "latent_editing"
TIMES = "times"
"""Key of the time embedding of every step, ``(S, D)``."""


class LatentEditing:
    """Adds to the map what the trained network of a group makes of it."""

    def __init__(self) -> None:
        self.fit: Fit | TrainedFit | None = LatentEditingFit()

    def ready(self, mitigation: LatentEditingConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Load the networks.

        Raises:
            ValueError: If no fit is given, or its file cannot be read.
        """
        tensors = fitted_tensors(mitigation.name, fitted)
        functions = _functions_of(tensors)
        (hookpoint,) = mitigation.hookpoints

        def intervene(batch: Batch) -> Intervention:
            change = _Change(functions, tensors[TIMES], batch.assigned, mitigation.strength)
            window = window_of(mitigation.window, batch.steps)
            return Intervention(batch.assigned, window, mitigation.reverse_step, edits={hookpoint: change})

        return intervene


class LatentEditingFit:
    """Samples unedited images, and trains one network per group on their runs."""

    def examples(self, tools: FitTools, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Return the CLIP embeddings ``(n, E)`` of the unedited pictures of each group's images."""
        mitigation, batch = _section(request), request.sampling.batch
        found = {}
        for group in request.groups:
            seeds = _seeds(prompt, group, mitigation.images_per_group)
            parts = [seeds[start : start + batch] for start in range(0, len(seeds), batch)]
            pictures = torch.cat([tools.generator.sample([prompt.text] * len(own), own) for own in parts])
            found[group] = torch.from_numpy(tools.clip().images(pictures))
        return found

    def train(self, tools: FitTools, request: FitRequest, examples: Examples, checkpoint: Checkpoint) -> Trained:
        """Return the weights of each group's network, and the time embedding of every step."""
        mitigation, model = _section(request), tools.model
        training = Training(tools, request, examples)
        parameters = {
            f"{group}/{name}": weight
            for group, function in training.functions.items()
            for name, weight in function.named_parameters()
        }
        window = len(training.window)
        # A pass follows one batch, so that a resumed training begins with a whole pass.
        schedule = Schedule(mitigation.name, mitigation.passes * window, mitigation.learning_rate, save_every=window)
        with model.frozen():
            losses = optimise(
                parameters, lambda step: gradients_of(training.loss(step), parameters), schedule, checkpoint
            )
            with torch.no_grad():
                times = model.time_embedding(model.timesteps)
        weights = {name: weight.detach().cpu() for name, weight in parameters.items()}
        return Trained(weights | {TIMES: times.float().cpu()}, tenths(losses))


@dataclass(frozen=True)
class _Image:
    """One unedited image: its prompt, the group that it is edited to, its seed, and its CLIP embedding ``(E,)``."""

    prompt: Prompt
    group: str
    seed: int
    embedded: Tensor


class Training:
    """Follows batches of images through the steps of the window, with and without the edit."""

    def __init__(self, tools: FitTools, request: FitRequest, examples: Examples) -> None:
        self._mitigation, self._tools, self._request = _section(request), tools, request
        self._images = _in_turn(examples, request)
        model, (hookpoint,) = tools.model, self._mitigation.hookpoints
        text = self._images[0].prompt.text
        channels = model.map_shape(hookpoint, model.initial_noise(text, [0]), text)[0]
        width = model.time_embedding(torch.zeros(1)).shape[1]
        self.functions = {
            group: BottleneckFunction(channels, width, derive_seed(METHOD, group)).to(model.device)
            for group in request.groups
        }
        self.window = window_of(self._mitigation.window, len(model.timesteps))
        self._directions = {
            (prompt.id, group): self._texts(prompt, group) for prompt, _ in examples for group in request.groups
        }
        self._run: AsymmetricRun | None = None
        self._batch: Sequence[_Image] = ()

    def loss(self, step: int) -> Tensor:
        """Return the mean loss of a batch at an optimiser step, and move the batch to the next denoising step."""
        number, place = divmod(step, len(self.window))
        if place == 0 or self._run is None:
            self._run = self._begin(number)
        edited, unedited = self._run.step(self.window[place])
        directions, embedded = self._of_batch()
        pictures, before = (self._tools.model.pictures(latents) for latents in (edited, unedited))
        clip = directional_loss(self._tools.clip().with_gradients(pictures), embedded, directions)
        # Pictures are in [0, 1]; the paper's are in [−1, 1].
        moved = 2 * (pictures - before).abs().mean((1, 2, 3)) * self._closeness()
        weights = self._mitigation
        return (weights.clip_weight * clip + weights.reconstruction_weight * moved).mean()

    def _begin(self, number: int) -> AsymmetricRun:
        """Choose a batch, and begin its run."""
        size, images, model = self._mitigation.batch, self._images, self._tools.model
        self._batch = [images[(number * size + row) % len(images)] for row in range(size)]
        groups, texts = [image.group for image in self._batch], [image.prompt.text for image in self._batch]
        (hookpoint,) = self._mitigation.hookpoints
        guided = Guided(model, self._request.sampling.guidance, texts)
        noise = model.initial_noise(texts[0], [image.seed for image in self._batch])  # it is the same for every prompt
        run = AsymmetricRun(guided, hookpoint, partial(_changed, self.functions, groups), noise)
        run.skip_to(self.window.start)
        return run

    def _texts(self, prompt: Prompt, group: str) -> tuple[Tensor, float]:
        """Return the direction of the texts ``(E,)``, and their cosine."""
        naming = text_naming(self._mitigation, group, self._request.template, prompt)
        source, reference = (torch.from_numpy(self._tools.clip().text(text)) for text in (prompt.text, naming))
        return reference - source, float(source @ reference)

    def _of_batch(self) -> tuple[Tensor, Tensor]:
        device = self._tools.model.device
        directions = [self._directions[image.prompt.id, image.group][0] for image in self._batch]
        return torch.stack(directions).to(device), torch.stack([image.embedded for image in self._batch]).to(device)

    def _closeness(self) -> Tensor:
        cosines = [self._directions[image.prompt.id, image.group][1] for image in self._batch]
        return torch.tensor(cosines, device=self._tools.model.device)


def directional_loss(edited: Tensor, unedited: Tensor, texts: Tensor) -> Tensor:
    """Return −log((2 − L_dir) / 2) of each image, L_dir the directional loss of Gal et al. 2022.

    Args:
        edited: CLIP embeddings of the edited pictures, ``(B, E)``.
        unedited: Those of the unedited ones.
        texts: Direction of the texts, ``(B, E)``.
    """
    turned = 1 - cosine_similarity(normalize(edited - unedited), normalize(texts))
    return -torch.log((2 - turned) / 2 + 1e-6)  # an opposite direction would be infinitely bad


def _changed(functions: Mapping[str, nn.Module], groups: Sequence[str], h: Tensor, time: Tensor) -> Tensor:
    """Return h + Δh, each image with the network of its group."""
    changes = torch.zeros_like(h, dtype=torch.float32)
    for group in dict.fromkeys(groups):
        rows = torch.tensor([row for row, own in enumerate(groups) if own == group], device=h.device)
        changes = changes.index_copy(0, rows, functions[group](h[rows].float(), time[rows].float()))
    return h + changes.to(h.dtype)


@dataclass(frozen=True)
class _Change:
    """Adds each image's change, times the strength; one image at a time, so that none depends on its batch."""

    functions: Mapping[str, nn.Module]
    times: Tensor
    groups: Sequence[str]
    strength: float

    def __call__(self, step: int, h: Tensor) -> Tensor:
        if self.strength == 0:
            return h
        time = self.times[step][None]
        changes = [self.functions[group](row[None].float(), time) for group, row in zip(self.groups, h, strict=True)]
        return h + (self.strength * torch.cat(changes)).to(h.dtype)


def _functions_of(tensors: Mapping[str, Tensor]) -> dict[str, BottleneckFunction]:
    """Return the networks of a fit by group, without gradients."""
    weights: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, slash, own = name.rpartition("/")
        if slash:
            weights.setdefault(group, {})[own] = tensor
    functions = {}
    for group, state in weights.items():
        functions[group] = BottleneckFunction(len(state["out.bias"]), state["time.weight"].shape[1], 0)
        functions[group].load_state_dict(state)
        functions[group].requires_grad_(False).to(state["out.bias"].device)
    return functions


def _in_turn(examples: Examples, request: FitRequest) -> list[_Image]:
    """Return all images; prompts and groups take turns, so that each batch holds several."""
    count = _section(request).images_per_group
    seeds = {(prompt.id, group): _seeds(prompt, group, count) for prompt, _ in examples for group in request.groups}
    return [
        _Image(prompt, group, seeds[prompt.id, group][i], embedded[group][i].clone())
        for i in range(count)
        for prompt, embedded in examples
        for group in request.groups
    ]


def _seeds(prompt: Prompt, group: str, count: int) -> list[int]:
    return [derive_seed(METHOD, prompt.id, group, i) for i in range(count)]


def _section(request: FitRequest) -> LatentEditingConfig:
    if not isinstance(request.mitigation, LatentEditingConfig):
        raise TypeError(f"expected a section of {METHOD}, found {request.mitigation!r}")
    return request.mitigation
