"""Plans a protocol for the command ``register``, and says what to do with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.config.sections import GateConfig
from audit.config.slices import FilesRequest, MeasurementRequest
from audit.evidence.protocol import Plan, Protocol, register
from audit.planning.plan import arms_of, images_of_prompts, prompts_of_model
from audit.planning.targets import audit_targets
from audit.preflight.weights.needs import needed
from audit.records.attributes import Attribute
from audit.results.two_stages import Stages
from audit.storage.outside.safe_text import printable
from ray_jobs.cli.power_table import PlannedTests, power_as_data, power_of
from ray_jobs.cli.sampling_table import sampling_as_data, sampling_of


def planned_protocol(
    stored: Mapping[str, Any], request: MeasurementRequest, files: FilesRequest, gates: Sequence[GateConfig]
) -> Protocol:
    """Return the protocol of an audit, registered now.

    Args:
        stored: The config as a run would store it.
        request: How the images are made and measured.
        files: The sections that name files.
        gates: The gates.

    Raises:
        ConfigErrors: If a file with targets has mistakes.
        PictureErrors: If the manifest or the folder of the pictures has errors.
    """
    prompts = prompts_of_model(request.model, request.prompts)
    attributes = tuple(Attribute(name, groups) for name, groups in request.attributes.items())
    images = images_of_prompts(request.model, request.prompts, prompts)
    tests = PlannedTests(attributes, files.targets, tuple(gates), min(images.values()))
    staged = sampling_of(Stages.of(request.prompts, request.attributes))
    plan = Plan(
        model=request.model,
        prompts=prompts,
        images=images,
        arms=arms_of(request.mitigations),
        attributes=attributes,
        targets=audit_targets(files.targets, [prompt.id for prompt in prompts], attributes).shares,
        needs=tuple(needed(files)),
    )
    return register(stored, plan, power_as_data(power_of(tests, prompts)) | {"two_stage": sampling_as_data(staged)})


def protocol_lines(protocol: Protocol, place: Path) -> tuple[str, ...]:
    """Return what ``register`` prints."""
    gates = len(protocol.config.get("gates") or ())
    counts = f"{len(protocol.prompts)} prompts, {sum(prompt.images for prompt in protocol.prompts)} images per arm"
    weights = () if protocol.model_fingerprint else ("The weights are not here, so the protocol does not name them.",)
    return (
        f"Protocol  {printable(str(place))}",
        f"Time      {protocol.registered} (the clock of this machine)",
        f"Planned   {counts}, {len(protocol.arms)} arm{'s' * (len(protocol.arms) > 1)}, "
        f"{gates} gate{'s' * (gates != 1)}",
        f"sha256    {protocol.sha256}",
        *weights,
        "Hand the checksum to those who will rely on the audit: it shows that nothing was changed afterwards.",
    )
