"""Watches and changes one call of a published pipeline: its denoiser and its scheduler, while they run as published.

The pipeline's own class and scheduler sample the image. Hooks on the denoiser count its calls, and a wrapper of
``scheduler.step`` counts the steps. Only the first call of the denoiser in a step holds the conditional half: guidance
in one batch puts it last (2B rows), guidance in two calls (FLUX) asks for it first, and further calls (skip-layer
guidance of Stable Diffusion 3) are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

from torch import Tensor, cat, nn, stack

from audit.models.files.untrusted_model import UnfitModelError
from audit.models.hooks import edit_place, edit_text, edit_text_mask, stream_of
from audit.models.intervention import Intervention, Observer, Predictions
from audit.models.replay import FrontOutputs, SharedSteps, forward_through, shared_steps
from audit.models.schedulers.noised import Start
from audit.models.schedulers.predicted import predicted_latents
from audit.records.located.places import Place

# B images, C H W the map at a hookpoint, c h w the latents, L text tokens, D text width, K concepts

Observers = Mapping[str, Observer]
"""Hookpoint, written as a place, → what looks at its map, before any edit of it."""

NO_OBSERVERS: Observers = {}

_MAP_AXES = 4

PredictedObserver = Callable[[int, Tensor], None]
"""``(step, x̂₀)``: reads the latents (B, c, h, w) of the image that a step predicts, after guidance."""


class EnoughError(Exception):
    """The denoiser has been called as often as was asked for; the rest of the pipeline is not needed.

    Attributes:
        prediction: What the denoiser returned, (2B, c, h, w) or (B, c, h, w), or tokens.
    """

    def __init__(self, prediction: Tensor) -> None:
        super().__init__()
        self.prediction = prediction


@dataclass(frozen=True)
class BlockText:
    """What a block reads in the conditional half in place of the prompt.

    Attributes:
        rows: Embeddings (B, L, D), as the cross-attention of the block reads them.
        mask: What is added to the scores of the tokens (B, 1, L); None if the model hides none.
    """

    rows: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class Watched:
    """What is watched and changed in one call of a pipeline.

    Attributes:
        batch: B, the images of the call.
        guidance: Scale of guidance in one batch.
        observers: What looks at the maps.
        intervention: What is changed, None for nothing.
        block_texts: Block → what it reads in the conditional half.
        concepts: For each further text of a guidance, argument of the denoiser → its value for one image, (1, …);
            ``part.name`` is a key of an argument that is a dict.
        first_call_alone: Stop after the first call of the denoiser.
        unconditional: What looks at maps of the half without text; guidance in one batch has one.
        predicted: What looks at the predicted image of each step.
        shared: Outputs of the first steps that the arms of this batch have in common; None if none are kept.
        start: Noised pictures from which a later step starts; the denoiser is not called before it. None for noise.
    """

    batch: int
    guidance: float
    observers: Observers = field(default_factory=dict)
    intervention: Intervention | None = None
    block_texts: Mapping[str, BlockText] | None = None
    concepts: tuple[Mapping[str, Tensor], ...] = ()
    first_call_alone: bool = False
    unconditional: Observers = field(default_factory=dict)
    predicted: PredictedObserver | None = None
    shared: SharedSteps | None = None
    start: Start | None = None


@dataclass(frozen=True)
class Inside:
    """The parts of a pipeline that are reached while it runs.

    Attributes:
        denoiser: The network whose modules are the hookpoints.
        scheduler: Takes the steps.
        module: Finds a module of the denoiser by its address.
        stream: Address → place of the image in a tuple that the module returns.
    """

    denoiser: nn.Module
    scheduler: Any
    module: Callable[[str], nn.Module]
    stream: Callable[[str], int]


class Denoising:
    """One call of a pipeline, from its first step to its last."""

    def __init__(self, inside: Inside, watched: Watched) -> None:
        self._inside, self._watched = inside, watched
        self._step, self._calls = 0, 0
        self._edits_off, self._looks_off, self._replayed = False, False, False
        self._unedited: Tensor | None = None
        self._unconditional: Tensor | None = None
        self._concepts: Tensor | None = None
        self._borrowed = ExitStack()
        self._front = _front_of(inside.denoiser, watched)
        edits = [path for one in _parts(watched) for path in one.edits]
        self._seen = dict.fromkeys((*watched.observers, *watched.unconditional, *edits), 0)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold every hook and every borrowed weight while the pipeline is called, also if it fails."""
        denoiser = self._inside.denoiser
        with ExitStack() as held:
            held.callback(denoiser.register_forward_pre_hook(self._before).remove)
            held.callback(denoiser.register_forward_hook(self._after, with_kwargs=True).remove)
            held.enter_context(forward_through(denoiser, self._forward))
            if self._front is not None:
                held.enter_context(self._front.watched())
            for path in self._seen:
                held.enter_context(self._hooked(path))
            for path, read in (self._watched.block_texts or {}).items():
                module = self._inside.module(path)
                held.enter_context(edit_text(module, partial(self._with_conditional, path, read.rows)))
                if read.mask is not None:
                    held.enter_context(edit_text_mask(module, partial(self._with_conditional, path, read.mask)))
            held.enter_context(_stepping(self._inside.scheduler, self._take_step))
            held.callback(self._return_weights)
            yield

    def _hooked(self, path: str) -> AbstractContextManager[None]:
        place = Place.parse(path)
        module, stream = self._inside.module(place.module), self._inside.stream(place.module)
        return edit_place(module, place.kind, partial(self._look_and_edit, path), stream)

    @property
    def _acting(self) -> list[Intervention]:
        """The interventions that act at this step, in their order."""
        return [one for one in _parts(self._watched) if self._step in one.window]

    @property
    def _is_asymmetric(self) -> bool:
        return any(one.reverse_step == "asymmetric" for one in self._acting)

    def _forward(self, own: Callable[..., Any], *inputs: Any, **named: Any) -> Any:  # noqa: ANN401 - as the denoiser returns
        """Call the denoiser, unless another arm of this batch has called it on the same input."""
        start, shared = self._watched.start, self._watched.shared
        if start is not None and self._step < start.step:
            self._replayed = True
            return (_no_prediction(self._inside.denoiser, inputs[0] if inputs else named["hidden_states"]),)
        if shared is None or self._step >= shared_steps(self._watched.intervention):
            return own(*inputs, **named)
        known = None if self._watched.observers else shared.find(self._step, self._calls - 1)
        if known is not None:
            self._replayed = True
            return known
        output = own(*inputs, **named)
        shared.keep(self._step, self._calls - 1, output)
        return output

    def _before(self, denoiser: nn.Module, _inputs: object) -> None:
        self._calls += 1
        acting = self._acting
        if acting and self._front is not None and self._calls == 1:
            self._front.begin()
        for weights in (one.weights for one in acting if one.weights is not None):
            self._borrowed.enter_context(weights(denoiser))

    def _after(self, denoiser: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: object) -> None:
        self._return_weights()
        if self._is_asymmetric and self._calls == 1:
            self._edits_off = True
            try:
                with nullcontext() if self._front is None else self._front.replayed():
                    self._unedited = self._guided(denoiser.forward(*inputs, **named))
            finally:
                self._edits_off = False
        if any(one.guidance is not None for one in self._acting) and self._calls == 1:
            self._predict_concepts(denoiser, inputs, named, _prediction(output))
        if self._watched.first_call_alone:
            self._check_calls()
            raise EnoughError(_prediction(output))

    def _predict_concepts(
        self, denoiser: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], prediction: Tensor
    ) -> None:
        """Call the denoiser for the further texts, two in one call, one in each half of the batch.

        Raises:
            UnfitModelError: There is no unconditional half.
        """
        batch, concepts = self._watched.batch, self._watched.concepts
        if len(prediction) != 2 * batch:
            raise UnfitModelError(
                "guidance by further texts starts from the prediction without text: expected classifier-free guidance "
                f"in one batch of {2 * batch}, found a batch of {len(prediction)}; set sampling.guidance above 1, or "
                "use another method"
            )
        found: list[Tensor] = []
        self._edits_off = self._looks_off = True
        try:
            for first in range(0, len(concepts), 2):
                pair = (concepts[first], concepts[min(first + 1, len(concepts) - 1)])
                found += _prediction(denoiser.forward(*inputs, **_with_texts(named, pair, batch))).chunk(2)
        finally:
            self._edits_off = self._looks_off = False
        self._unconditional, self._concepts = prediction[:batch], stack(found[: len(concepts)])

    def _return_weights(self) -> None:
        self._borrowed.close()

    def _guided(self, output: object) -> Tensor:
        """Return the guided prediction (Ho & Salimans 2022, eq. 6), ``(B, c, h, w)``."""
        prediction = _prediction(output)
        if len(prediction) == self._watched.batch:
            return prediction
        unconditional, conditional = prediction.chunk(2)
        return unconditional + self._watched.guidance * (conditional - unconditional)

    def _look_and_edit(self, path: str, h: Tensor) -> Tensor:
        """Look at the conditional half of a map, then edit it."""
        if self._calls != 1 or self._looks_off:
            return h
        if not self._edits_off:
            self._seen[path] += 1
        batch, observer = self._watched.batch, self._watched.observers.get(path)
        # An asymmetric step calls the denoiser twice; the call without edits is the one that is looked at.
        if observer is not None and (self._edits_off or not self._is_asymmetric):
            observer(self._step, h[-batch:])
        self._look_at_unconditional(path, h)
        edits = [] if self._edits_off else [one.edits[path] for one in self._acting if path in one.edits]
        if not edits:
            return h
        if self._front is not None:
            self._front.close()
        before = conditional = h[-batch:]
        for edit in edits:
            conditional = edit(self._step, conditional)
        if conditional is before:
            return h
        return conditional if len(h) == batch else cat([h[:-batch], conditional])

    def _look_at_unconditional(self, path: str, h: Tensor) -> None:
        """Look at the half without text.

        Raises:
            UnfitModelError: There is none.
        """
        observer, batch = self._watched.unconditional.get(path), self._watched.batch
        if observer is None:
            return
        if len(h) != 2 * batch:
            raise UnfitModelError(
                f"hookpoint {path!r}: expected classifier-free guidance in one batch of {2 * batch}, found a batch of "
                f"{len(h)}; read the conditional half alone: set sampling.guidance to 1"
            )
        observer(self._step, h[:batch])

    def _with_conditional(self, path: str, rows: Tensor, text: Tensor) -> Tensor:
        """Replace the conditional half of the text that a block reads, or of its mask."""
        if self._edits_off or self._calls != 1 or not any(path in one.block_texts for one in self._acting):
            return text
        return cat([text[: -len(rows)], rows])

    def _take_step(self, step: Callable[..., Any], prediction: Tensor, *rest: Any, **named: Any) -> Any:  # noqa: ANN401
        for acting in self._acting:
            if acting.noise is not None:
                prediction = acting.noise(self._step, prediction)
            if acting.guidance is not None:
                prediction = acting.guidance.guide(self._step, self._predictions(prediction))
        if self._watched.predicted is not None:
            noisy = rest[1] if len(rest) > 1 else named["sample"]
            at = rest[0] if rest else named["timestep"]
            self._watched.predicted(self._step, predicted_latents(self._inside.scheduler, prediction, at, noisy))
        if self._unedited is None:
            taken = step(prediction, *rest, **named)
        else:
            # PixArt also predicts variances, behind the noise; its pipeline drops them.
            unedited = self._unedited[:, : prediction.shape[1]]
            taken = _asymmetric_step(self._inside.scheduler, step, (prediction, unedited), rest, named)
        start = self._watched.start
        if start is not None and self._step == start.step - 1:
            taken = (start.noised(self._inside.scheduler, taken[0]), *taken[1:])
        self._check_calls()
        self._step, self._calls, self._unedited = self._step + 1, 0, None
        return taken

    def _predictions(self, guided: Tensor) -> Predictions:
        """Return what was predicted at this step; a variance beside the noise is left out.

        Raises:
            UnfitModelError: The pipeline took a step without a call of its denoiser.
        """
        if self._unconditional is None or self._concepts is None:
            raise UnfitModelError(f"step {self._step}: expected a call of the denoiser before the step, found none")
        channels = guided.shape[1]
        return Predictions(guided, self._unconditional[:, :channels], self._concepts[:, :, :channels])

    def _check_calls(self) -> None:
        """Make sure that every hookpoint was called once in this step.

        Raises:
            UnfitModelError: One was not, or several times, as a layer that a block uses twice.
        """
        for path, calls in self._seen.items():
            if calls != 1 and not self._replayed:
                raise UnfitModelError(
                    f"hookpoint {path!r}: expected one call in each step, found {calls} in step {self._step}; choose "
                    "another block"
                )
        self._seen, self._replayed = dict.fromkeys(self._seen, 0), False


def _front_of(denoiser: nn.Module, watched: Watched) -> FrontOutputs | None:
    """Return what keeps the outputs in front of an edit; None if no step is asymmetric, or not only maps change."""
    parts = _parts(watched)
    if all(one.reverse_step != "asymmetric" for one in parts):
        return None
    if any(one.weights or one.guidance for one in parts) or watched.block_texts or watched.observers:
        return None
    return FrontOutputs(denoiser)


def _parts(watched: Watched) -> tuple[Intervention, ...]:
    return () if watched.intervention is None else watched.intervention.parts


def _with_texts(named: dict[str, Any], pair: tuple[Mapping[str, Tensor], ...], batch: int) -> dict[str, Any]:
    """Replace the text that the denoiser reads: the first one in the first half of the batch, the second in the other.

    Raises:
        UnfitModelError: The denoiser is called without one of the arguments, or with another shape.
    """
    changed = dict(named)
    for argument in pair[0]:
        part, _, key = argument.partition(".")
        rows = cat([one[argument].expand(batch, *one[argument].shape[1:]) for one in pair])
        before = changed.get(part, {}).get(key) if key else changed.get(part)
        if not isinstance(before, Tensor) or before.shape != rows.shape:
            found = tuple(before.shape) if isinstance(before, Tensor) else "none"
            raise UnfitModelError(f"{argument}: expected a text of shape {tuple(rows.shape)}, found {found}")
        rows = rows.to(before.dtype)
        changed[part] = {**changed[part], key: rows} if key else rows
    return changed


def _no_prediction(denoiser: nn.Module, noisy: Tensor) -> Tensor:
    """Return zeros in the shape of a prediction; PixArt also predicts variances."""
    channels = getattr(denoiser.config, "out_channels", None) or noisy.shape[1]
    return noisy.new_zeros(len(noisy), int(channels), *noisy.shape[2:]) if noisy.ndim == _MAP_AXES else noisy * 0


def _prediction(output: object) -> Tensor:
    """Return the prediction in what a denoiser returns."""
    return stream_of(output if isinstance(output, tuple) else output.sample)  # type: ignore[attr-defined]


@contextmanager
def _stepping(scheduler: Any, take: Callable[..., Any]) -> Iterator[None]:  # noqa: ANN401 - a scheduler of diffusers
    """Let ``take(step, …)`` take the scheduler's steps."""
    own = scheduler.step

    @wraps(own)  # pipelines look up which arguments a scheduler's step takes
    def step(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the scheduler returns
        return take(own, *arguments, **named)

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step


def _asymmetric_step(
    scheduler: Any,  # noqa: ANN401 - a DDIMScheduler
    step: Callable[..., Any],
    predictions: tuple[Tensor, Tensor],
    rest: tuple[Any, ...],
    named: dict[str, Any],
) -> Any:  # noqa: ANN401 - as the scheduler returns
    """Take a DDIM step whose predicted image alone follows the edit (Kwon et al. 2023, eq. 6).

    x_{t−1} = √ᾱ_{t−1} x̂₀(edited) + √(1−ᾱ_{t−1}) ε̂(unedited): the step without the edit, moved by the difference of the
    two predicted images.
    """
    named = dict(named)
    as_tuple = not named.pop("return_dict", True)
    edited, unedited = (step(prediction, *rest, return_dict=True, **named) for prediction in predictions)
    signal = _signal_after(scheduler, rest[0] if rest else named["timestep"])
    moved = signal * (edited.pred_original_sample - unedited.pred_original_sample)
    unedited.prev_sample = unedited.prev_sample + moved
    unedited.pred_original_sample = edited.pred_original_sample
    return (unedited.prev_sample, unedited.pred_original_sample) if as_tuple else unedited


def _signal_after(scheduler: Any, timestep: Any) -> Tensor:  # noqa: ANN401 - as diffusers passes them
    """Return √ᾱ of the noise level that DDIM reaches from a timestep."""
    before = int(timestep) - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    reached: Tensor = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
    return reached**0.5
