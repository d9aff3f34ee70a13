"""Names and files of fitted methods. Nothing here loads a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.config.mitigations.registry import MitigationConfig
from audit.config.sections import SamplingConfig
from audit.config.slices import MeasurementRequest
from audit.records.work import Prompt
from audit.storage.provenance import content_name

FITS = "fits"
"""Directory of fitted methods under ``output`` of the config; each is named by content, so audits share it."""

FIT_FORMAT = 2
FIT_FILE, TENSORS_FILE, CARD_FILE, PARTS = "fit.json", "fit.safetensors", "README.md", "parts"
TRAINING_FILE = "training.safetensors"
"""State of a training that is not finished."""

LOSSES = "losses"
"""Key of the losses so far in the state of a training."""


@dataclass(frozen=True)
class FitRequest:
    """What the method of one mitigation is fitted with.

    Attributes:
        mitigation: Section of the method.
        groups: Groups of its attribute.
        template: Template of the prompts.
        sampling: How the model is sampled.
    """

    mitigation: MitigationConfig
    groups: tuple[str, ...]
    template: str
    sampling: SamplingConfig


def fit_requests(request: MeasurementRequest) -> Iterator[FitRequest]:
    """Return one request for each mitigation whose method is fitted."""
    for one in request.sections:
        if one.fitted_by is not None:
            yield FitRequest(one, request.attributes[one.attribute], request.prompts.template, request.sampling)


def images_of_fits(requests: Iterable[FitRequest], prompts: Sequence[Prompt]) -> int:
    """Return how many images fitting samples at most if no fit is stored yet."""
    return sum(
        len(prompts) * request.mitigation.fitted_images_of(len(request.groups)) + request.mitigation.trained_images
        for request in requests
    )


def steps_of_fits(requests: Iterable[FitRequest]) -> int:
    """Return how many steps all trainings take if no fit is stored yet."""
    return sum(request.mitigation.training_steps(request.sampling.steps) for request in requests)


def passes_of_fits(requests: Iterable[FitRequest]) -> int:
    """Return how often an image passes the denoiser with gradients in trainings that sample their own images."""
    return sum(_passes(request) for request in requests)


def _passes(request: FitRequest) -> int:
    sampling = request.sampling
    return request.mitigation.gradient_passes(sampling.steps, guided=sampling.guidance > 1)


def cost_of_fit(request: FitRequest, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Return the search budget of a fit: images that it samples, steps of its training, and passes with gradients."""
    cost: dict[str, float] = {
        "images": images_of_fits([request], prompts),
        "training_steps": steps_of_fits([request]),
    }
    passes = passes_of_fits([request])
    return cost | ({"gradient_passes": passes} if passes else {})


def fit_settings(
    request: FitRequest, prompts: Sequence[Prompt], used: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return everything besides the model that determines a fit, as plain data.

    Args:
        request: What is fitted.
        prompts: Prompts of the audit.
        used: Names by content of what the fit uses besides the model: judge, lens.
    """
    return {
        **(request.mitigation.fitted_by or {}),
        **(used or {}),
        "groups": list(request.groups),
        "template": request.template,
        "prompts": [prompt.text for prompt in prompts],
        "steps": request.sampling.steps,
        "guidance": request.sampling.guidance,
        "batch": request.sampling.batch,
        **request.sampling.departures,
    }


def fit_name(model_fingerprint: str, settings: dict[str, Any]) -> str:
    """Name a fit by content."""
    return content_name(settings["method"].replace("_", "-"), FIT_FORMAT, model_fingerprint, settings)


def card(name: str, model_fingerprint: str, settings: dict[str, Any], figures: Mapping[str, float]) -> str:
    """Return the model card of a fit, as Markdown.

    Args:
        name: Of the fit.
        model_fingerprint: Of the model.
        settings: What determines the fit.
        figures: What it cost, and what its training reports.
    """
    rows = _rows({key: value for key, value in settings.items() if key != "prompts"})
    return (
        f"# {name}\n\nWhat the method `{settings['method']}` found in the model {model_fingerprint}, over "
        f"{len(settings['prompts'])} prompts. Made by `difflens-audit run`, on the workers; `{TENSORS_FILE}` holds it, "
        f"`{FIT_FILE}` what decided it.\n\n| setting | value |\n| --- | --- |\n{rows}\n\n"
        f"| cost and result | value |\n| --- | --- |\n{_rows(figures)}\n"
    )


def _rows(values: Mapping[str, Any]) -> str:
    return "\n".join(f"| {key} | {value} |" for key, value in values.items())
