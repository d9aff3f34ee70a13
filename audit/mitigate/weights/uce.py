"""UCE: unified concept editing (Gandikota et al. 2024, eq. 7 and section 4.4), with a loop over measured shares.

Every key and value matrix W of the cross-attention is changed so that the embeddings c of a prompt give
v* = W₀ (c + Σ_a r_a a), with a the embeddings of the groups' texts:

    W = (λ W₀ + Σ v* cᵀ + Σ_k W₀ k kᵀ) (λ I + Σ c cᵀ + Σ_k k kᵀ)⁻¹ = W₀ (I + N),
    N = (Σ (Σ_a r_a a) cᵀ) (λ I + Σ c cᵀ + Σ_k k kᵀ)⁻¹,

with k the texts that are preserved. W₀ is a factor on the left, so one matrix N describes the change of the whole
model. After each round r_a grows by the gain times the difference of the target from the share that the judge counted.
The gain of a prompt is halved whenever a difference changes its sign, so that a gain that is too large does not swing.

All embeddings are those that the matrices read. PixArt projects those of its text encoder first, in one way for every
block and step, so they are taken behind the projection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from audit.config.mitigations.weights import UceConfig
from audit.dissect.lens import Lens
from audit.mitigate.fitted_tensors import fitted_tensors
from audit.mitigate.method import Batch, Fit, Intervene, RoundsFit
from audit.mitigate.tools import FitTools
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import DiffusionGenerator
from audit.models.intervention import Intervention
from audit.perception.judges.perceived import NO_GROUP
from audit.planning.fits import FitRequest
from audit.planning.plan import group_text
from audit.records.work import Prompt, derive_seed

# P prompts, G groups, T tokens, D width of the text

ROUND, CHANGE, BEST, DISTANCE, SHARES = "round", "change", "best", "distance", "shares"
TEXT, GROUPS, PRESERVED, COUNTS, COEFFICIENTS = "text", "groups", "preserved", "counts", "coefficients"
BALANCED, GAIN, LAST = "balanced", "gain", "last"
_PROJECTIONS = (".attn2.to_k", ".attn2.to_v")


class Uce:
    """Changes the keys and values of all cross-attention."""

    def __init__(self) -> None:
        self.fit: Fit | RoundsFit | None = UceFit()

    def ready(self, mitigation: UceConfig, lens: Lens | None, fitted: Path | None) -> Intervene:
        """Load the change.

        Raises:
            ValueError: There is no fit, or its file cannot be read.
        """
        change = mitigation.strength * fitted_tensors(mitigation.name, fitted)[BEST]
        weights = ChangedCrossAttention(change) if bool((change != 0).any()) else None

        def intervene(batch: Batch) -> Intervention:
            return Intervention((None,) * len(batch.assigned), range(batch.steps), weights=weights)

        return intervene


class ChangedCrossAttention:
    """Sets every key and value matrix to W₀ (I + N) inside a ``with`` block; the changed matrices are kept."""

    def __init__(self, change: Tensor) -> None:
        self._change = change
        self._denoiser: nn.Module | None = None
        self._changed: dict[str, Tensor] = {}

    def __call__(self, denoiser: nn.Module) -> AbstractContextManager[None]:
        """Borrow the weights of a denoiser.

        Raises:
            UnfitModelError: Its cross-attention does not read the text's embeddings.
        """
        return self._borrowed(denoiser)

    @contextmanager
    def _borrowed(self, denoiser: nn.Module) -> Iterator[None]:
        layers = cross_attention(denoiser, len(self._change))
        if self._denoiser is not denoiser:
            with torch.inference_mode(False), torch.no_grad():
                self._changed = {name: self._matrix(layer.weight) for name, layer in layers.items()}
            self._denoiser = denoiser
        own = {name: layer.weight.data for name, layer in layers.items()}
        try:
            for name, layer in layers.items():
                layer.weight.data = self._changed[name]
            yield
        finally:
            for name, layer in layers.items():
                layer.weight.data = own[name]

    def _matrix(self, weight: Tensor) -> Tensor:
        before = weight.detach().double()
        return (before + before @ self._change.to(before)).to(weight.dtype)


def cross_attention(denoiser: nn.Module, width: int) -> dict[str, nn.Linear]:
    """Return the key and value layers of all cross-attention, which read embeddings of ``width`` numbers.

    Raises:
        UnfitModelError: There is none, or one reads something else. The blocks of Stable Diffusion 3 and FLUX.1 change
            the text from block to block and step to step, so that no fixed embedding gives their keys and values.
    """
    layers = {name: layer for name, layer in denoiser.named_modules() if name.endswith(_PROJECTIONS)}
    widths = {layer.in_features if isinstance(layer, nn.Linear) else None for layer in layers.values()}
    if widths != {width}:
        found = "none" if not layers else f"layers of width {sorted(map(str, widths))}"
        raise UnfitModelError(
            f"UCE changes keys and values of cross-attention that reads the text's embeddings: expected layers "
            f"attn2.to_k and attn2.to_v of width {width} in the {type(denoiser).__name__}, found {found}; use another "
            "method"
        )
    return {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}


class UceFit:
    """Counts groups, changes the coefficients, and counts again, until the shares meet the target."""

    def rounds(self, request: FitRequest) -> int:
        """Return the rounds of the config."""
        return _section(request).rounds

    def part(
        self, tools: FitTools, request: FitRequest, prompt: Prompt, before: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Count the groups in images of one prompt with the weights of the last round, and embed its texts once."""
        section, generator = _section(request), tools.generator
        number = int(before[ROUND]) if before else 0
        change = before.get(CHANGE)
        weights = None if change is None else ChangedCrossAttention(change)
        seeds = [derive_seed("uce", number, prompt.id, i) for i in range(section.images_per_prompt)]
        counts = torch.zeros(len(request.groups), dtype=torch.float64)
        for start in range(0, len(seeds), request.sampling.batch):
            own = seeds[start : start + request.sampling.batch]
            arm = Intervention((None,) * len(own), range(generator.steps), weights=weights)
            perceived = tools.judge().perceive(generator.generate(prompt, own, arm), prompt.occupation)
            codes = torch.from_numpy(perceived.codes(section.attribute))
            counts += torch.bincount(codes[codes != NO_GROUP], minlength=len(counts))
        return {f"{COUNTS}/{prompt.id}": counts, **(self._texts(generator, request, prompt) if not before else {})}

    def join(self, request: FitRequest, sums: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compare the shares with the target, and change the coefficients of prompts that are off it.

        The change whose shares were nearest to the target is kept as the best.

        Raises:
            ValueError: No image of a prompt could be classified before anything was changed.
        """
        section = _section(request)
        target = torch.tensor(list(section.steered_shares(request.groups).values()), dtype=torch.float64)
        found, prompts = dict(before) or _first(sums, len(target)), _prompts(before or sums)
        counts = torch.stack([sums[f"{COUNTS}/{prompt}"] for prompt in prompts])
        unclassified = [prompt for prompt, total in zip(prompts, counts.sum(1), strict=True) if total == 0]
        if unclassified and not before:
            raise ValueError(
                f"expected images of {unclassified[0]!r} that show a group of {section.attribute}, found none; try the "
                "judge with `difflens-audit judge`"
            )
        for prompt, own in zip(prompts, counts, strict=True):
            found |= _corrected(found, prompt, beyond_noise(target, own, section.tolerance), section.gain)
        distance = distance_from(target, counts)
        if not before or bool(distance < found[DISTANCE].min()):
            found[BEST] = found[CHANGE]
        found[DISTANCE] = torch.cat([found[DISTANCE], distance[None]]) if before else distance[None]
        shares = (counts / counts.sum(1, keepdim=True).clamp(min=1))[None]
        found[SHARES] = torch.cat([found[SHARES], shares]) if before else shares
        found[CHANGE] = closed_form(*_edited(found), section.regularisation)
        found[ROUND] = found[ROUND] + 1
        return found

    def is_finished(self, request: FitRequest, found: Mapping[str, Tensor]) -> bool:
        """Return whether the shares of every prompt meet the target."""
        return all(bool(found[f"{BALANCED}/{prompt}"]) for prompt in _prompts(found))

    def _texts(self, generator: DiffusionGenerator, request: FitRequest, prompt: Prompt) -> dict[str, Tensor]:
        """Embed the prompt (T, D), the groups' texts (G, T, D), and the preserved texts (T_k, D)."""
        section = _section(request)
        names = [group_text(section, group, request.template, prompt) for group in request.groups]
        whole = section.tokens == "to_end"
        own, *groups = (_tokens(generator, text, whole=whole) for text in (prompt.text, *names))
        length = min(map(len, (own, *groups)))
        kept = [_tokens(generator, text, whole=whole) for text in section.preserve]
        cross_attention(generator.denoiser, own.shape[1])
        return {
            f"{TEXT}/{prompt.id}": own[:length],
            f"{GROUPS}/{prompt.id}": torch.stack([rows[:length] for rows in groups]),
            **({f"{PRESERVED}/{prompt.id}": torch.cat(kept)} if kept else {}),
        }


def distance_from(target: Tensor, counts: Tensor) -> Tensor:
    """Return the largest |target − share| over the groups, mean over prompts; 1 for a prompt without classified images.

    Args:
        target: (G,).
        counts: (P, G).
    """
    totals = counts.sum(1)
    largest = (target - counts / totals[:, None].clamp(min=1)).abs().amax(1)
    return torch.where(totals > 0, largest, torch.ones_like(largest)).mean()


def beyond_noise(target: Tensor, counts: Tensor, tolerance: float) -> Tensor:
    """Return target − share (G,), or zeros if each difference is within the tolerance or its standard error.

    A share of n images that meets the target t has the standard error √(t (1 − t) / n). Without classified images there
    is nothing to correct.
    """
    total = counts.sum()
    difference = target - counts / total.clamp(min=1)
    accepted = (target * (1 - target) / total.clamp(min=1)).sqrt().clamp(min=tolerance)
    met = bool(total == 0) or bool((difference.abs() <= accepted).all())
    return torch.zeros_like(difference) if met else difference


def closed_form(
    texts: Sequence[Tensor], additions: Sequence[Tensor], preserved: Sequence[Tensor], regularisation: float
) -> Tensor:
    """Return N (D, D), so that W₀ (I + N) is the closed form of eq. 7.

    Args:
        texts: c, (T, D) for each prompt.
        additions: Σ_a r_a a, (T, D) for each prompt.
        preserved: k, (T_k, D).
        regularisation: λ.
    """
    width = texts[0].shape[1]
    numerator = torch.zeros(width, width, dtype=torch.float64)
    denominator = regularisation * torch.eye(width, dtype=torch.float64)
    for text, addition in zip(texts, additions, strict=True):
        numerator += addition.double().T @ text.double()
        denominator += text.double().T @ text.double()
    for text in preserved:
        denominator += text.double().T @ text.double()
    change: Tensor = torch.linalg.solve(denominator, numerator.T).T  # the denominator is symmetric
    return change


def _corrected(found: Mapping[str, Tensor], prompt: str, difference: Tensor, gain: float) -> dict[str, Tensor]:
    """Return the coefficients of a prompt after a round, its gain, and the last difference that counted."""
    before, factor = found.get(f"{LAST}/{prompt}"), found.get(f"{GAIN}/{prompt}", torch.tensor(gain).double())
    if before is not None and bool((before * difference < 0).any()):
        factor = factor / 2
    balanced = bool((difference == 0).all())
    return {
        f"{COEFFICIENTS}/{prompt}": found[f"{COEFFICIENTS}/{prompt}"] + factor * difference,
        f"{BALANCED}/{prompt}": torch.tensor(float(balanced)),
        f"{GAIN}/{prompt}": factor,
        **({} if balanced else {f"{LAST}/{prompt}": difference}),
    }


def _first(sums: Mapping[str, Tensor], groups: int) -> dict[str, Tensor]:
    """Return what is known before the first change."""
    texts = {key: value for key, value in sums.items() if not key.startswith(f"{COUNTS}/")}
    width = next(value for key, value in texts.items() if key.startswith(f"{TEXT}/")).shape[1]
    zeros = {f"{COEFFICIENTS}/{prompt}": torch.zeros(groups, dtype=torch.float64) for prompt in _prompts(texts)}
    nothing = torch.zeros(width, width, dtype=torch.float64)
    return {**texts, **zeros, ROUND: torch.tensor(0), CHANGE: nothing, BEST: nothing}


def _prompts(found: Mapping[str, Tensor]) -> list[str]:
    return sorted(key.partition("/")[2] for key in found if key.startswith(f"{TEXT}/"))


def _edited(found: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return texts, additions and preserved texts."""
    prompts = _prompts(found)
    additions = [
        torch.einsum("g,gtd->td", found[f"{COEFFICIENTS}/{prompt}"], found[f"{GROUPS}/{prompt}"].double())
        for prompt in prompts
    ]
    preserved = [value for key, value in found.items() if key.startswith(f"{PRESERVED}/")][:1]
    return [found[f"{TEXT}/{prompt}"] for prompt in prompts], additions, preserved


def _tokens(generator: DiffusionGenerator, text: str, *, whole: bool) -> Tensor:
    """Return the embedding (1, D) of the last token of a text, or of all tokens from there to the end (T, D)."""
    rows = generator.from_last_token(text).float().cpu()
    return rows if whole else rows[:1]


def _section(request: FitRequest) -> UceConfig:
    if not isinstance(request.mitigation, UceConfig):
        raise TypeError(f"expected a section of uce, found {request.mitigation!r}")
    return request.mitigation
