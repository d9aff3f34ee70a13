"""Generators: make the images of a prompt, with one seed per image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audit.calibration.bundle import world_table
from audit.calibration.pairs import draw_pairs
from audit.calibration.renderer import render
from audit.calibration.world import World, draw_labels, face_noise
from audit.config.sections import ModelConfig, SamplingConfig
from audit.models.denoising import (
    NO_OBSERVERS,
    BlockText,
    Denoising,
    EnoughError,
    Inside,
    Observers,
    PredictedObserver,
    Watched,
)
from audit.models.device import device_here
from audit.models.families.interface import LoadedModel
from audit.models.files.text_reader import TextReader
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.hooks import find_hookpoint
from audit.models.intervention import BorrowedEncoders, Edit, Intervention
from audit.models.loading import load_model
from audit.models.replay import SharedSteps
from audit.models.schedulers.noised import Start
from audit.models.schedulers.trial import steps_of
from audit.models.source import model_fingerprint
from audit.records.work import PairPrompt, Prompt

# B images, H W pixels


_MASK = "prompt_attention_mask"
_HIDDEN = -10_000.0
"""What transformers of diffusers add to the score of a hidden token."""

_TRIAL_IMAGES = 2

EMBEDDED_TEXTS = 128
"""Text embeddings kept on the device, 0.5 MB each for Stable Diffusion: an audit may have thousands of prompts."""


@dataclass(frozen=True)
class WatchedInside:
    """What looks at a batch while it is sampled.

    Attributes:
        conditional: Place → what looks at its maps (B, C, H, W) in the half with the prompt.
        unconditional: The same for the half without it.
        predicted: What looks at the latents (B, c, h, w) of the predicted image of each step, x̂₀.
    """

    conditional: Observers
    unconditional: Observers = field(default_factory=dict)
    predicted: PredictedObserver | None = None


class Generator(Protocol):
    """Makes images; the same prompt, seed and batch composition always give the same image."""

    @property
    def fingerprint(self) -> str:
        """Hash of the weights (or of the table) behind the images."""
        ...

    @property
    def steps(self) -> int:
        """Steps of the scheduler for one image; 0 if nothing is sampled."""
        ...

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Settings of the sampler, for the record; empty if nothing is sampled."""
        ...

    @property
    def reader(self) -> TextReader | None:
        """Tokenizer of the prompts and its limit; None if there is no limit or no prompt."""
        ...

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        intervention: Intervention | None = None,
        observers: Observers = NO_OBSERVERS,
        shared: SharedSteps | None = None,
    ) -> Tensor:
        """Return uint8 images ``(B, 3, H, W)``, one for each seed.

        Args:
            prompt: The prompt.
            seeds: One for each image.
            intervention: What is changed, None for the baseline.
            observers: What looks at maps.
            shared: Keeps what the arms of one batch have in common, so that it is computed once; images are the same.
        """
        ...


class RenderedGenerator:
    """The renderer itself: exactly the planted distribution, with no network between."""

    def __init__(self, world: World, fingerprint: str) -> None:
        self._world = world
        self.fingerprint = fingerprint
        self.steps = 0
        self.sampling: Mapping[str, Any] = {}
        self.reader: TextReader | None = None  # the renderer uses only the occupation

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        intervention: Intervention | None = None,
        observers: Observers = NO_OBSERVERS,
        shared: SharedSteps | None = None,
    ) -> Tensor:
        """Draw the pictures that the planted table gives for these seeds.

        Raises:
            ValueError: An intervention was asked for; drawings have no network to edit.
        """
        if intervention is not None:
            raise ValueError("model 'rendered' has no network to edit; found a mitigation arm; remove the mitigations")
        if isinstance(prompt, PairPrompt):
            return draw_pairs(self._world, prompt.first, prompt.second, seeds).images
        noise = face_noise(seeds)
        return render(draw_labels(self._world, prompt.occupation, noise), noise).images


class DiffusionGenerator:
    """Samples a published pipeline as diffusers runs it, with one CPU generator per image."""

    def __init__(self, model: LoadedModel, sampling: SamplingConfig, hookpoint: str, fingerprint: str) -> None:
        self._model, self._sampling = model, sampling
        self.steps = steps_of(model.pipeline.scheduler, sampling.steps)
        self._module = cache(partial(find_hookpoint, model.denoiser))
        self._hookpoint = hookpoint
        self._encoded: Callable[[str], dict[str, Tensor]] = lru_cache(EMBEDDED_TEXTS)(self._encode)
        self.reader: TextReader | None = model.reader
        self.fingerprint = fingerprint
        self.sampling: Mapping[str, Any] = _sampled_as(model, sampling)

    @property
    def denoiser(self) -> nn.Module:
        """The network whose modules are the hookpoints."""
        return self._model.denoiser

    @property
    def trial_batch(self) -> int:
        """Images of a trial call: few, but a whole batch if blocks are compiled, since each size has its own graph."""
        return self._sampling.batch if self._model.compiled else _TRIAL_IMAGES

    @property
    def pipeline(self) -> Any:  # noqa: ANN401 - a pipeline of diffusers
        """The pipeline that samples."""
        return self._model.pipeline

    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        intervention: Intervention | None = None,
        observers: Observers = NO_OBSERVERS,
        shared: SharedSteps | None = None,
    ) -> Tensor:
        """Sample one image of ``prompt`` for each seed."""
        return self.sample([prompt.text] * len(seeds), seeds, intervention, observers, shared)

    def sample(
        self,
        texts: Sequence[str],
        seeds: Sequence[int],
        intervention: Intervention | None = None,
        observers: Observers = NO_OBSERVERS,
        shared: SharedSteps | None = None,
    ) -> Tensor:
        """Sample one image for each pair of text and seed.

        Raises:
            ValueError: The intervention asks for something that this pipeline or its scheduler does not have.
        """
        watched = Watched(
            batch=len(seeds),
            guidance=self._sampling.guidance,
            observers=observers,
            intervention=self._possible(intervention),
            block_texts=self._block_texts(texts, intervention),
            concepts=self._concepts(intervention),
            shared=shared,
        )
        return _as_bytes(self._call(texts, seeds, watched).images)

    def watch(self, texts: Sequence[str], seeds: Sequence[int], inside: WatchedInside) -> Tensor:
        """Sample as :meth:`sample` does, and let both guidance halves and the predicted images be looked at.

        Raises:
            UnfitModelError: There is no half without text that could be looked at.
        """
        watched = Watched(
            batch=len(seeds),
            guidance=self._sampling.guidance,
            observers=inside.conditional,
            unconditional=inside.unconditional,
            predicted=inside.predicted,
        )
        return _as_bytes(self._call(texts, seeds, watched).images)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents, as the pipeline keeps them, to uint8 (B, 3, H, W).

        Raises:
            UnfitModelError: The pipeline has no VAE.
        """
        vae = getattr(self.pipeline, "vae", None)
        if vae is None:
            raise UnfitModelError(f"expected a pipeline that decodes latents, found {type(self.pipeline).__name__}")
        with without_overflow(vae):
            return _as_bytes(self.pictures(latents))

    def pictures(self, latents: Tensor) -> Tensor:
        """Decode latents, as the pipeline keeps them, to pictures (B, 3, H, W) in [0, 1], with gradients if asked."""
        vae = self.pipeline.vae
        cells = self._model.family.as_map(self.pipeline, latents, self._sampling)
        scaled = cells / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        decoded: Tensor = vae.decode(scaled.to(vae.dtype), return_dict=False)[0]
        return (decoded.float() / 2 + 0.5).clamp(0, 1)

    @torch.inference_mode()
    def encode(self, pictures: Tensor) -> Tensor:
        """Encode pictures, uint8 (B, 3, H, W), to latents (B, c, h, w) as the pipeline denoises them.

        The VAE's distribution is replaced by its mode, so that a picture always has the same latents.

        Raises:
            UnfitModelError: The pipeline has no VAE.
        """
        vae = getattr(self.pipeline, "vae", None)
        if vae is None:
            raise UnfitModelError(f"expected a pipeline that encodes pictures, found {type(self.pipeline).__name__}")
        with without_overflow(vae):
            scaled = (pictures.float() / 127.5 - 1).to(self._device, vae.dtype)
            encoded = vae.encode(scaled)
        distribution = getattr(encoded, "latent_dist", None)  # of a variational autoencoder
        latents: Tensor = (encoded.latent if distribution is None else distribution.mode()).float()
        latents = latents - (getattr(vae.config, "shift_factor", None) or 0.0)
        return latents * float(vae.config.scaling_factor)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that are sampled, in pixels."""
        pipeline, network = self.pipeline, cast("Any", self.denoiser)
        published = getattr(pipeline, "default_sample_size", None) or network.config.sample_size
        cells = (published, published) if isinstance(published, int) else tuple(published)
        own = (self._sampling.height, self._sampling.width)
        height, width = (side or cell * pipeline.vae_scale_factor for side, cell in zip(own, cells, strict=True))
        return int(height), int(width)

    @property
    def _device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def embeddings(self, text: str) -> dict[str, Tensor]:
        """Return the embeddings of a text that the denoiser reads, by argument of the pipeline: (1, L, D), or (1, D).

        The negative prompt is left out, and so are tokens that the denoiser's mask hides.

        Raises:
            ValueError: The model reads no text.
        """
        if self.reader is None:
            raise ValueError("expected a model that reads text, found one that reads none; use another method")
        encoded = self._encoded(text)
        found = {name: rows for name, rows in encoded.items() if _is_embedding(name)}
        mask = encoded.get(_MASK)
        return found if mask is None else found | {"prompt_embeds": found["prompt_embeds"][:, mask[0].bool()]}

    @torch.inference_mode()
    def from_last_token(self, text: str) -> Tensor:
        """Return the embeddings ``(T, D)`` of the last token of a text and of everything behind it that is not hidden.

        They are what cross-attention reads: PixArt projects the embeddings of its text encoder before.

        Raises:
            ValueError: The model reads no text.
        """
        own = self.embeddings(text)["prompt_embeds"]
        rows, reader = self._model.family.read_by_blocks(self.denoiser, own)[0], self.reader
        # A mask leaves the tokens that are read, which are others than those of the text if the pipeline changes it.
        tokens = len(rows) if reader is None or _MASK in self._encoded(text) else reader.count(text)
        return rows[tokens - 1 - (reader.end_marks if reader else 0) :]

    def read_by_denoiser(self, text: str) -> dict[str, Tensor]:
        """Embed a text anew, with gradients to weights that ask for them.

        Returns:
            Argument of the denoiser → (1, L, D), or (1, D); ``part.name`` is a key of an argument that is a dict.
        """
        rows = self._encode(text)
        return {argument: rows[name] for name, argument in self._model.family.read_by_denoiser.items() if name in rows}

    def with_steps(self, steps: int) -> DiffusionGenerator:
        """Return a generator of the same model that takes another number of denoising steps."""
        sampling = self._sampling.model_copy(update={"steps": steps})
        return DiffusionGenerator(self._model, sampling, self._hookpoint, self.fingerprint)

    def latents(self, texts: Sequence[str], seeds: Sequence[int], intervention: Intervention | None = None) -> Tensor:
        """Sample as :meth:`sample` does, and return the latents before they are decoded.

        They are maps ``(B, c, h, w)``, or the tokens ``(B, T, C)`` that FLUX.1 makes of them.
        """
        watched = Watched(len(seeds), self._sampling.guidance, intervention=self._possible(intervention))
        found: Tensor = self._call(texts, seeds, watched, "latent").images
        return found.clone()

    @property
    def shared_inputs(self) -> tuple[str, ...]:
        """Arguments of the denoiser that have no row for each image."""
        return self._model.family.shared_inputs

    @property
    def timestep_scales(self) -> tuple[float, float]:
        """What multiplies a timestep before the denoiser reads it, and before it is embedded."""
        return self._model.family.timestep_scales(self.denoiser)

    def stream(self, path: str) -> int:
        """Return the place of the image in a tuple that a module of the denoiser returns."""
        return self._model.family.stream(path)

    def first_call(self, text: str, seeds: Sequence[int]) -> tuple[Tensor, dict[str, Any]]:
        """Return how the denoiser is called first: noisy latents, see :meth:`latents`, and what it reads beside them.

        With guidance, what it reads has 2B rows, those of the empty prompt first; the timestep is left out.

        Raises:
            ValueError: It is called without latents or without a timestep.
        """
        seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        with self.denoiser.register_forward_pre_hook(
            lambda _module, inputs, named: seen.append((inputs, named)), with_kwargs=True
        ):
            self.first_prediction(text, seeds, {})
        noisy, _, read = split_call(*seen[0])
        return noisy[-len(seeds) :].clone(), read

    def first_maps(self, text: str, seeds: Sequence[int]) -> Tensor:
        """Return the hookpoint's maps ``(B, C, H, W)`` of the conditional half in the first step, from one call."""
        seen: list[Tensor] = []
        observers: Observers = {self._hookpoint: lambda _step, h: seen.append(h)}
        watched = Watched(len(seeds), self._sampling.guidance, observers, first_call_alone=True)
        with contextlib.suppress(EnoughError):
            self._call([text] * len(seeds), seeds, watched)
        return seen[0]

    def maps(
        self,
        texts: Sequence[str],
        seeds: Sequence[int],
        hookpoint: str,
        step: int = 0,
        latents: Tensor | None = None,
    ) -> Tensor:
        """Return a hookpoint's maps ``(B, C, H, W)`` of the conditional half at one step, for pairs of text and seed.

        Nothing is computed that comes after the hookpoint at this step. With latents, nothing is computed before the
        step either: it reads these latents, noised to its level by the noise that sampling starts from for each seed.

        Args:
            texts: A text for each map.
            seeds: A seed for each map.
            hookpoint: Address of the module.
            step: The step, at least 1 with latents.
            latents: Of a picture for each map (B, c, h, w), see :meth:`encode`.

        Raises:
            UnfitModelError: The sampler ends before this step, the hookpoint is not called in it, or pictures have
                another size than what is sampled.
        """
        found: list[Tensor] = []

        def keep(at: int, h: Tensor) -> None:
            if at == step:
                found.append(h.clone())
                raise EnoughError(h)

        start = None if latents is None else self._start(step, latents, seeds)
        watched = Watched(len(seeds), self._sampling.guidance, {hookpoint: keep}, start=start)
        with contextlib.suppress(EnoughError):
            self._call(texts, seeds, watched)
        if not found:
            raise UnfitModelError(
                f"expected a map of {hookpoint!r} at step {step}, found none in {self.steps} steps; choose another "
                "step or hookpoint"
            )
        return found[0]

    def _start(self, step: int, latents: Tensor, seeds: Sequence[int]) -> Start:
        if step < 1:
            raise UnfitModelError(
                f"expected a step from 1 on for pictures, found {step}: the first step reads little but noise"
            )
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(latents.shape[1:], generator=draw) for draw in draws])
        kept = [self._model.family.kept(self.pipeline, rows) for rows in (latents, noise)]
        return Start(step, *kept)

    def resample(self, texts: Sequence[str], seeds: Sequence[int], step: int, latents: Tensor) -> Tensor:
        """Return uint8 images ``(B, 3, H, W)`` of pictures that are noised to the level of a step, and denoised again.

        Args:
            texts: A text for each picture.
            seeds: A seed for each picture, of the noise.
            step: The first step that is taken, at least 1.
            latents: Of the pictures (B, c, h, w), see :meth:`encode`.

        Raises:
            UnfitModelError: Pictures have another size than what is sampled.
        """
        watched = Watched(len(seeds), self._sampling.guidance, start=self._start(step, latents, seeds))
        return _as_bytes(self._call(texts, seeds, watched).images)

    def first_prediction(self, text: str, seeds: Sequence[int], edits: Mapping[str, Edit]) -> Tensor:
        """Return what the denoiser predicts in its first call, under some edits: the conditional half comes last."""
        changed = Intervention((None,) * len(seeds), range(1), edits=edits)
        watched = Watched(len(seeds), self._sampling.guidance, intervention=changed, first_call_alone=True)
        try:
            self._call([text] * len(seeds), seeds, watched)
        except EnoughError as enough:
            return enough.prediction
        raise UnfitModelError(
            f"expected a pipeline that calls its {type(self.denoiser).__name__}, found one that does not"
        )

    @torch.inference_mode()
    def _call(self, texts: Sequence[str], seeds: Sequence[int], watched: Watched, output: str = "pt") -> Any:  # noqa: ANN401
        """Call the pipeline; its result has one image of numbers from 0 to 1 for each seed, or its latents."""
        rows = self._embedded(texts, watched.intervention)
        embedded: dict[str, Any] = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        for one in _parts(watched.intervention):
            if one.embeddings is not None:
                own = {name: tensor for name, tensor in embedded.items() if _is_embedding(name)}
                embedded |= one.embeddings(own)
        inside = Inside(self.denoiser, self.pipeline.scheduler, self._module, self.stream)
        with Denoising(inside, watched).held():
            return self.pipeline(
                **(embedded or {"batch_size": len(seeds)}),
                **self._model.family.arguments(self._model.pipeline, self._sampling),
                num_inference_steps=self._sampling.steps,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type=output,
            )

    def _encode(self, text: str) -> dict[str, Tensor]:
        """Embed a text, which must be read to its end."""
        if self.reader is not None:
            self.reader.check([text])
        return self._model.family.encode(self.pipeline, text, self._sampling)

    def _embedded(self, texts: Sequence[str], intervention: Intervention | None) -> list[dict[str, Tensor]]:
        """Embed the text of each image, or that of the intervention, or what lies between both."""
        for one in _parts(intervention):
            if one.texts is not None:
                strengths = one.text_strengths or (1.0,) * len(texts)
                return [self._between(*each) for each in zip(texts, one.texts, strengths, strict=True)]
            if one.encoders is not None:
                return self._encoded_by(one.encoders, texts)
        return [self._encoded(text) for text in texts]

    def _encoded_by(self, encoders: BorrowedEncoders, texts: Sequence[str]) -> list[dict[str, Tensor]]:
        """Embed texts with other weights; the negative prompt keeps the embeddings of the model's own."""
        with encoders(self.pipeline):
            changed = {text: self._encode(text) for text in dict.fromkeys(texts)}
        found = {
            text: self._encoded(text) | {name: rows for name, rows in changed[text].items() if _is_embedding(name)}
            for text in changed
        }
        return [found[text] for text in texts]

    def _between(self, own: str, named: str, strength: float) -> dict[str, Tensor]:
        """Embed e_own + strength · (e_named − e_own); strengths 0 and 1 give one of both, bit for bit."""
        if strength in (0, 1):
            return self._encoded(named if strength else own)
        first, second = self._encoded(own), self._encoded(named)
        return {name: between(first[name], second[name], strength) for name in second}

    @torch.inference_mode()
    def _block_texts(self, own: Sequence[str], intervention: Intervention | None) -> dict[str, BlockText]:
        """Embed the texts that single blocks read."""
        parts = [one for one in _parts(intervention) if one.block_texts]
        if not parts:
            return {}
        if self.reader is None:
            raise ValueError("expected a model that reads text, found one that reads none; remove the texts by block")
        return {
            path: self._as_blocks_read(
                [self._between(*each) for each in zip(own, texts, one.text_strengths or (1.0,) * len(own), strict=True)]
            )
            for one in parts
            for path, texts in one.block_texts.items()
        }

    def _as_blocks_read(self, encoded: Sequence[Mapping[str, Tensor]]) -> BlockText:
        """Return the texts of a batch as blocks read them, with the masks of their own tokens."""
        embedded = torch.cat([one["prompt_embeds"] for one in encoded])
        rows, masks = self._model.family.read_by_blocks(self.denoiser, embedded), [one.get(_MASK) for one in encoded]
        if masks[0] is None:
            return BlockText(rows)
        shown = torch.cat([mask for mask in masks if mask is not None]).to(rows.dtype)
        return BlockText(rows, ((1 - shown) * _HIDDEN)[:, None])

    def _concepts(self, intervention: Intervention | None) -> tuple[Mapping[str, Tensor], ...]:
        """Embed the further texts of a guidance, by the argument of the denoiser that reads them.

        Raises:
            ValueError: The denoiser's guidance cannot be changed so.
        """
        guidance = next((one.guidance for one in _parts(intervention) if one.guidance is not None), None)
        if guidance is None:
            return ()
        family = self._model.family
        if self.reader is None or not family.guided_in_one_batch:
            raise ValueError(
                "guidance by further texts needs a denoiser with classifier-free guidance in one batch, found "
                f"{family.name}; use another method"
            )
        return tuple(
            {argument: rows[name] for name, argument in family.read_by_denoiser.items() if name in rows}
            for rows in map(self._encoded, guidance.texts)
        )

    def _possible(self, intervention: Intervention | None) -> Intervention | None:
        """Refuse edits of a text that is not read, and an asymmetric step of a scheduler other than DDIM."""
        parts = _parts(intervention)
        if self.reader is None and any((one.embeddings or one.encoders) is not None for one in parts):
            raise ValueError("expected a model that reads text, found one that reads none; use another method")
        scheduler = type(self.pipeline.scheduler).__name__
        if scheduler != "DDIMScheduler" and any(one.reverse_step == "asymmetric" for one in parts):
            raise ValueError(
                f"an asymmetric step is one of DDIM, found {scheduler}; set reverse_step: symmetric, or "
                "sampling.scheduler: DDIMScheduler"
            )
        return intervention


class BlackBoxGenerator:
    """Calls a pipeline with prompts, as its users call it; nothing inside is watched or edited."""

    def __init__(self, model: LoadedModel, sampling: SamplingConfig, fingerprint: str) -> None:
        self._model, self._sampling = model, sampling
        self.steps = sampling.steps
        self.reader: TextReader | None = None
        self.fingerprint = fingerprint
        self.sampling: Mapping[str, Any] = _sampled_as(model, sampling)

    @torch.inference_mode()
    def generate(
        self,
        prompt: Prompt,
        seeds: Sequence[int],
        intervention: Intervention | None = None,
        observers: Observers = NO_OBSERVERS,
        shared: SharedSteps | None = None,
    ) -> Tensor:
        """Sample one image of ``prompt`` for each seed; an intervention may give each image another text.

        Raises:
            ValueError: The intervention asks for more than other texts.
        """
        if observers or (intervention is not None and not intervention.changes_texts_alone):
            raise ValueError(
                f"expected a model whose inside can be reached, found {type(self._model.pipeline).__name__}; remove "
                "what edits or analyses the model"
            )
        texts = next((one.texts for one in _parts(intervention) if one.texts is not None), None)
        images: NDArray[np.float32] = self._model.pipeline(
            **_as_prompts(texts or [prompt.text] * len(seeds)),
            **self._model.family.arguments(self._model.pipeline, self._sampling),
            num_inference_steps=self._sampling.steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        ).images
        return _as_bytes(images)


def _parts(intervention: Intervention | None) -> tuple[Intervention, ...]:
    return () if intervention is None else intervention.parts


def split_call(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Return noisy latents and timestep of a call of a denoiser, and what else it reads, by argument.

    Pipelines give both to a U-Net by their places, and one or both to a transformer by their names.

    Raises:
        ValueError: One is not there.
    """
    read = dict(named)
    noisy = inputs[0] if inputs else read.pop("hidden_states", None)
    timestep = inputs[1] if len(inputs) > 1 else read.pop("timestep", None)
    if noisy is None or timestep is None:
        raise ValueError("expected a denoiser that is called with latents and a timestep; choose another method")
    return noisy, torch.as_tensor(timestep), read


def between(own: Tensor, named: Tensor, strength: float) -> Tensor:
    """Return the embedding between two texts; a mask of tokens keeps those of both."""
    if not own.is_floating_point():
        return torch.maximum(own, named)
    return own + strength * (named - own)


def _is_embedding(name: str) -> bool:
    """Return whether an argument of a pipeline is an embedding of the prompt, and no mask or negative prompt."""
    return not name.startswith("negative_") and not name.endswith("mask")


def _as_prompts(texts: Sequence[str]) -> dict[str, Any]:
    """Return the prompt of a call; one text for all images is encoded once."""
    if len(set(texts)) == 1:
        return {"prompt": texts[0], "num_images_per_prompt": len(texts)}
    return {"prompt": list(texts)}


@contextlib.contextmanager
def without_overflow(vae: Any) -> Iterator[None]:  # noqa: ANN401 - of diffusers
    """Decode in float32, as pipelines do, if a VAE in float16 says that it overflows (Stable Diffusion XL)."""
    if vae.dtype != torch.float16 or not getattr(vae.config, "force_upcast", False):
        yield
        return
    vae.to(torch.float32)
    try:
        yield
    finally:
        vae.to(torch.float16)


def _as_bytes(images: Tensor | NDArray[np.float32]) -> Tensor:
    """Round images from 0 to 1 as diffusers does, to uint8 (B, 3, H, W) on the CPU.

    Args:
        images: Tensor (B, 3, H, W), which is rounded where it is, so that a GPU sends a byte for each number and not
            four; or array (B, H, W, 3), which some pipelines return whatever they are asked for.
    """
    x = images if isinstance(images, Tensor) else torch.from_numpy(images).permute(0, 3, 1, 2)
    return x.float().mul(255).round().byte().contiguous().cpu()


def _sampled_as(model: LoadedModel, sampling: SamplingConfig) -> dict[str, Any]:
    """Return how a model is sampled, for the record of an audit."""
    scheduler = getattr(model.pipeline, "scheduler", None)  # pipelines of several stages have none of this name
    config = {} if scheduler is None else scheduler.config
    settings = {key: config.get(key) for key in ("timestep_spacing", "prediction_type")}
    sides = {"height": sampling.height, "width": sampling.width}
    return {
        **({} if scheduler is None else {"scheduler": type(scheduler).__name__}),
        **({} if model.family.denoiser else {"inside": "not reached"}),
        "steps": sampling.steps,
        **({"guidance": sampling.guidance} if model.family.reads_text else {}),
        **{key: value for key, value in (settings | sides).items() if value is not None},
        **{key: sampling.departures[key] for key in ("negative_prompt", "true_guidance") if key in sampling.departures},
        **({"compiled": model.compiled} if model.compiled else {}),
        **model.published,
    }


def load_generator(model: ModelConfig, sampling: SamplingConfig, hookpoint: str = "mid_block") -> Generator:
    """Load the generator that a config names, on a GPU if there is one."""
    fingerprint = model_fingerprint(model)
    if model.source == "rendered":
        return RenderedGenerator(World.load(world_table(model)), fingerprint)
    loaded = load_model(model, device_here(), sampling.scheduler)
    if not loaded.family.denoiser:
        return BlackBoxGenerator(loaded, sampling, fingerprint)
    return DiffusionGenerator(loaded, sampling, hookpoint, fingerprint)
