"""Energy that the workers of a run used, with the source of each figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import reduce
from operator import add
from typing import Any

JOULES_PER_KWH = 3.6e6


class CpuSource(StrEnum):
    """Where the energy of processors comes from."""

    RAPL = "rapl"
    ESTIMATE = "estimate"
    BOTH = "rapl and estimate"


class GpuSource(StrEnum):
    """Where the energy of GPUs comes from; ``UNKNOWN`` means that a GPU worked without a readable counter."""

    NVML = "nvml"
    NO_GPU = "no gpu"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class EnergyUse:
    """Energy of one or more workers; ``a + b`` adds two.

    Attributes:
        cpu_source: Source of ``cpu_joules``.
        gpu_source: Source of ``gpu_joules``; unknown if it is unknown for one of the workers.
        watts_per_core: Assumed power of a busy core, in watts; used by estimates alone.
        cpu_joules: Energy of processors.
        gpu_joules: Energy of GPUs whose counter was read.
        seconds: Wall time of the measured work, summed over workers.
        images: Finished images, over all arms.
    """

    cpu_source: CpuSource
    gpu_source: GpuSource
    watts_per_core: float
    cpu_joules: float = 0.0
    gpu_joules: float = 0.0
    seconds: float = 0.0
    images: int = 0

    def nothing(self, **figures: float) -> EnergyUse:
        """Return a use of the same sources with only the given figures."""
        empty = {"cpu_joules": 0.0, "gpu_joules": 0.0, "seconds": 0.0, "images": 0}
        return replace(self, **(empty | figures))  # type: ignore[arg-type]

    def __add__(self, other: EnergyUse) -> EnergyUse:
        """Add two uses; the larger assumed power is kept."""
        return EnergyUse(
            cpu_source=self.cpu_source if self.cpu_source == other.cpu_source else CpuSource.BOTH,
            gpu_source=_gpu_of({self.gpu_source, other.gpu_source}),
            watts_per_core=max(self.watts_per_core, other.watts_per_core),
            cpu_joules=self.cpu_joules + other.cpu_joules,
            gpu_joules=self.gpu_joules + other.gpu_joules,
            seconds=self.seconds + other.seconds,
            images=self.images + other.images,
        )

    @property
    def kwh(self) -> float:
        """All measured and estimated energy, in kilowatt-hours."""
        return (self.cpu_joules + self.gpu_joules) / JOULES_PER_KWH

    def as_data(self) -> dict[str, Any]:
        """Return plain data for ``audit.json``: the fields, and the sum in kWh."""
        return {"kwh": self.kwh, **asdict(self)}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> EnergyUse:
        """Return the use that :meth:`as_data` wrote."""
        fields = {name: value for name, value in data.items() if name != "kwh"}
        sources = {"cpu_source": CpuSource(data["cpu_source"]), "gpu_source": GpuSource(data["gpu_source"])}
        return cls(**(fields | sources))


def energy_of(uses: Iterable[EnergyUse]) -> EnergyUse | None:
    """Add the uses of all workers; None if there are none."""
    found = list(uses)
    return reduce(add, found) if found else None


def _gpu_of(sources: set[GpuSource]) -> GpuSource:
    for source in (GpuSource.UNKNOWN, GpuSource.NVML):
        if source in sources:
            return source
    return GpuSource.NO_GPU
