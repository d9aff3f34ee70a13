"""Names and files of fitted methods. Nothing here loads a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from audit.config.mitigations import MitigationConfig
from audit.config.settings import AuditConfig
from audit.records.work import Prompt
from audit.storage.provenance import content_name

FITS = "fits"
"""Directory of fitted methods under the config's ``output``, each named by content: audits of a model share them."""

FIT_FORMAT = 1
FIT_FILE, TENSORS_FILE, CARD_FILE, PARTS = "fit.json", "fit.safetensors", "README.md", "parts"


def fitted_mitigations(config: AuditConfig) -> Iterator[MitigationConfig]:
    """Return the mitigations whose method is fitted."""
    return (mitigation for mitigation in config.mitigations if mitigation.fitted_by is not None)


def images_of_fits(config: AuditConfig, prompts: Sequence[Prompt]) -> int:
    """Count the images that fitting takes where no fit is at hand."""
    return sum(
        len(prompts) * len(config.attributes[mitigation.attribute]) * mitigation.fitted_images
        for mitigation in fitted_mitigations(config)
    )


def fit_settings(config: AuditConfig, mitigation: MitigationConfig, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Return all that decides a fit beside the model, as plain data."""
    return {
        **(mitigation.fitted_by or {}),
        "groups": list(config.attributes[mitigation.attribute]),
        "template": config.prompts.template,
        "prompts": [prompt.text for prompt in prompts],
        "steps": config.sampling.steps,
        "guidance": config.sampling.guidance,
        "batch": config.sampling.batch,
    }


def fit_name(model_fingerprint: str, settings: dict[str, Any]) -> str:
    """Name a fit by content."""
    return content_name(settings["method"].replace("_", "-"), FIT_FORMAT, model_fingerprint, settings)


def card(name: str, model_fingerprint: str, settings: dict[str, Any]) -> str:
    """Return the model card of a fit, as Markdown."""
    rows = "\n".join(f"| {key} | {value} |" for key, value in settings.items() if key != "prompts")
    return (
        f"# {name}\n\nWhat the method `{settings['method']}` found in the model {model_fingerprint}, over "
        f"{len(settings['prompts'])} prompts. Made by `difflens-audit run`, on the workers; `{TENSORS_FILE}` holds it, "
        f"`{FIT_FILE}` what decided it.\n\n| setting | value |\n| --- | --- |\n{rows}\n"
    )
