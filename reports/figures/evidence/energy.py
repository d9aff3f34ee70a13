"""One sentence about the energy of a run: how much, how it was found, and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.records.energy import JOULES_PER_KWH, CpuSource, EnergyUse, GpuSource

LEFT_OUT = (
    "It covers sampling, editing, judging and embedding on the workers, with repeated attempts. Baseline images from "
    "the cache need almost none. Preparation (lens, "
    "fits, reference images), the driver, memory, idle time and cooling are not in it."
)

_JOULES_PER_WH = JOULES_PER_KWH / 1000

_CPU = {
    CpuSource.RAPL: "Processors: measured by their own counters (RAPL), in proportion to processor time.",
    CpuSource.ESTIMATE: "Processors: not measured, but estimated from processor time with {watts:g} W per busy core.",
    CpuSource.BOTH: "Processors: measured (RAPL) on some machines, estimated with {watts:g} W per busy core on others.",
}

_GPU = {
    GpuSource.NVML: "GPUs: measured by their own counters (NVML).",
    GpuSource.NO_GPU: "No GPU was used.",
    GpuSource.UNKNOWN: "GPUs: at least one has no readable counter, so its energy is missing here.",
}


def energy_words(provenance: Mapping[str, Any]) -> str:
    """Return the sentence; empty for a run that recorded no energy."""
    found = provenance.get("energy")
    if not found or not found["images"]:
        return ""
    use = EnergyUse.of_data(found)
    each = (use.cpu_joules + use.gpu_joules) / _JOULES_PER_WH / use.images
    sources = f"{_CPU[use.cpu_source].format(watts=use.watts_per_core)} {_GPU[use.gpu_source]}"
    return f"{use.kwh:.2g} kWh for {use.images} images, {each:.2g} Wh per image. {sources} {LEFT_OUT}"
