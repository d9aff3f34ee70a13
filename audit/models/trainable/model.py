"""Calls the denoiser, the decoder and their hookpoints with gradients, for methods that are trained.

The weights of the model stay as they are: gradients are asked for what a method trains, and nothing else. Only the rows
that are needed are called: those of a text, or those of the empty prompt, and not both as sampling does.

Latents are what the pipeline keeps: maps (B, c, h, w), or the tokens (B, T, 4c) into which FLUX.1 packs them. Noise
levels, targets and steps are formulas of single numbers, so that they are the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from audit.models.generator import DiffusionGenerator, without_overflow
from audit.models.hooks import edit_place, find_hookpoint
from audit.models.trainable.noise_levels import NoiseLevels
from audit.records.located.places import Place

# B images, C H W the map at a hookpoint, c h w the latents

MapEdit = Callable[[Tensor], Tensor]
"""``h -> h'``: the map (B, C, H, W) of a hookpoint, edited with gradients."""


class TrainableModel:
    """The denoiser and the decoder of a latent diffusion model: a U-Net or a transformer.

    Raises:
        ValueError: The model has no decoder.
    """

    def __init__(self, generator: DiffusionGenerator) -> None:
        self._generator = generator
        self._pipeline = generator.pipeline
        self._read: dict[str, list[dict[str, Any]]] = {}
        self._shared: dict[str, Any] = {}
        self.levels = NoiseLevels.of(self._pipeline.scheduler)
        if not hasattr(self._pipeline, "vae"):
            raise ValueError(
                f"expected a latent diffusion model, found {type(self._pipeline).__name__}, which has no decoder; "
                "choose a method that is not trained"
            )

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next(self._generator.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights of the denoiser."""
        return next(self._generator.denoiser.parameters()).dtype

    @property
    def trained_timesteps(self) -> int:
        """T, the timesteps of training."""
        return self.levels.count

    @property
    def timesteps(self) -> Tensor:
        """The timestep of each denoising step, ``(S,)``, as the pipeline has set them in its last call."""
        found: Tensor = self._pipeline.scheduler.timesteps
        return found

    def level_after(self, step: int) -> tuple[float, float]:
        """Return a and s of the noise level that a step reaches; after the last it is the scheduler's final one.

        That is 1 and 0, or what a scheduler of diffusion with ``set_alpha_to_one: false`` has.
        """
        times = self.timesteps
        if step + 1 < len(times):
            signal, sigma = self.levels.at(times[step + 1 : step + 2])
            return float(signal), float(sigma)
        alpha = float(getattr(self._pipeline.scheduler, "final_alpha_cumprod", 1.0))
        return alpha**0.5, (1 - alpha) ** 0.5

    def initial_noise(self, text: str, seeds: Sequence[int]) -> Tensor:
        """Return what sampling starts from, as the denoiser reads it: latents of variance 1."""
        return self._generator.first_call(text, seeds)[0].float()

    def time_embedding(self, timesteps: Tensor) -> Tensor:
        """Return the embedding of timesteps ``(B,)``, as ``(B, D)``: blocks read a linear function of its SiLU.

        Each residual block of a U-Net has such a function, and each block of Stable Diffusion 3. The blocks of PixArt
        and Sana share one, from which they scale, shift and gate (adaLN-single, Chen et al. 2024). What some models add
        to it is left out, since it is the same for all images of a prompt: the embedding of the picture's size in
        PixArt-α, and of the pooled text in Stable Diffusion 3 and FLUX.1.

        Raises:
            ValueError: The denoiser has another embedding of the time.
        """
        network: Any = self._generator.denoiser
        single = getattr(network, "adaln_single", None) or getattr(network, "time_embed", None)
        joined = getattr(single, "emb", None) or getattr(network, "time_text_embed", None)
        if joined is not None:
            waves, embedding = joined.time_proj, joined.timestep_embedder
        elif hasattr(network, "time_proj") and hasattr(network, "time_embedding"):
            waves, embedding = network.time_proj, network.time_embedding
        else:
            raise ValueError(f"expected a denoiser that embeds the timestep, found {type(network).__name__}")
        read = timesteps.to(self.device) * self._generator.timestep_scales[1]
        embedded: Tensor = embedding(waves(read).to(self.dtype))
        return embedded

    def token_grid(self, noisy: Tensor) -> tuple[int, int]:
        """Return height and width of the tokens of a transformer, row by row, given latents ``(B, c, h, w)``."""
        network: Any = self._generator.denoiser
        patch = int(getattr(network.config, "patch_size", None) or 1)
        return noisy.shape[2] // patch, noisy.shape[3] // patch

    def map_shape(self, hookpoint: str, noisy: Tensor, text: str) -> tuple[int, ...]:
        """Return (C, H, W) of the map of a hookpoint; (C, T, 1) of one with tokens.

        Args:
            hookpoint: Address of the module.
            noisy: Any latents ``(1, c, h, w)``.
            text: Any prompt.
        """
        seen: list[tuple[int, ...]] = []

        def look(h: Tensor) -> Tensor:
            seen.append(tuple(h.shape[1:]))
            return h

        with torch.no_grad():
            self.predict(noisy, torch.zeros(1), [text], {hookpoint: look})
        return seen[0]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Ask for no gradient of the model's weights inside the block; restore what each asked for.

        A VAE that overflows in float16 is in float32 inside the block, so that gradients pass it as pictures do.
        """
        parts = [part for part in self._pipeline.components.values() if isinstance(part, nn.Module)]
        asked = [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]
        try:
            for parameter in asked:
                parameter.requires_grad_(False)
            with without_overflow(self._pipeline.vae):
                yield
        finally:
            for parameter in asked:
                parameter.requires_grad_(True)

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        texts: Sequence[str],
        edits: Mapping[str, MapEdit] | None = None,
        *,
        empty: int = 0,
        read: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the prediction, shaped as the latents, in float32 whatever the precision of the weights.

        A variance that is predicted beside the noise is left out, as pipelines do.

        Args:
            noisy: x_t, B latents.
            timesteps: ``(B,)``.
            texts: B prompts.
            edits: Hookpoint, written as a place, → edit of its map.
            empty: The first rows, of this number, read the empty (or negative) prompt in place of theirs.
            read: Argument of the denoiser → its value for the rows behind those, as ``DiffusionGenerator`` embeds
                a text; one row for all, or one for each.

        Raises:
            ValueError: There is no such hookpoint.
        """
        denoiser: nn.Module = self._generator.denoiser
        named = _joined([self._rows(text)[0 if row < empty else -1] for row, text in enumerate(texts)])
        named = _with_read(named, read or {}, empty, len(texts) - empty)
        with ExitStack() as held:
            for path, edit in (edits or {}).items():
                place = Place.parse(path)
                module, stream = find_hookpoint(denoiser, place.module), self._generator.stream(place.module)
                held.enter_context(edit_place(module, place.kind, edit, stream))
            read_times = timesteps.to(noisy.device) * self._generator.timestep_scales[0]
            predicted = denoiser(noisy.to(self.dtype), timestep=read_times, **named, **self._shared)
        prediction: Tensor = predicted[0] if isinstance(predicted, tuple) else predicted.sample
        return prediction[:, : noisy.shape[1]].float()

    def is_guided(self, text: str) -> bool:
        """Return whether the denoiser also reads the empty prompt, for classifier-free guidance."""
        return len(self._rows(text)) > 1

    def pictures(self, latents: Tensor) -> Tensor:
        """Decode latents to pictures ``(B, 3, H, W)`` in [0, 1]."""
        return self._generator.pictures(latents)

    def _rows(self, text: str) -> list[dict[str, Any]]:
        """Return what the denoiser reads beside the latents, for the empty prompt and for the text, or for it alone."""
        if text not in self._read:
            _, both = self._generator.first_call(text, [0])
            shared, own = self._generator.shared_inputs, dict[str, Any]()
            for name, value in both.items():
                (self._shared if name in shared else own)[name] = value
            count = max(len(value) for value in own.values() if isinstance(value, Tensor))  # 2 with guidance
            self._read[text] = [_row(own, place) for place in range(count)]
        return self._read[text]


def _row(value: Any, place: int) -> Any:  # noqa: ANN401 - what a denoiser reads
    """Return one row of every tensor."""
    if isinstance(value, dict):
        return {name: _row(one, place) for name, one in value.items()}
    return value[place : place + 1].clone() if isinstance(value, Tensor) else value


def _with_read(named: dict[str, Any], read: Mapping[str, Tensor], empty: int, rows: int) -> dict[str, Any]:
    """Replace what the rows behind the first ``empty`` ones read of a text."""
    changed = dict(named)
    for argument, value in read.items():
        part, _, key = argument.partition(".")
        own = changed[part][key] if key else changed[part]
        joined = torch.cat([own[:empty], value.to(own.dtype).expand(rows, *value.shape[1:])])
        changed[part] = {**changed[part], key: joined} if key else joined
    return changed


def _joined(rows: Sequence[Any]) -> Any:  # noqa: ANN401 - what a denoiser reads
    first = rows[0]
    if isinstance(first, dict):
        return {name: _joined([row[name] for row in rows]) for name in first}
    return torch.cat(list(rows)) if isinstance(first, Tensor) else first
