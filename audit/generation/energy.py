"""Energy that a worker uses: from counters of the hardware where it has them, else an estimate from processor time.

A GPU has one counter for the whole device (NVML). Processors of servers have one for each package (RAPL), which Linux
shows as files and often only to root. A package counter covers all processes of the machine, so a worker gets the part
that its processor time has in the busy time of the machine. Without a readable counter, processor time is multiplied
by an assumed power per core.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pynvml
import torch

from audit.records.energy import CpuSource, EnergyUse, GpuSource

POWERCAP = Path("/sys/class/powercap")
BUSY_TIMES = Path("/proc/stat")

_JOULES_PER_MICROJOULE, _JOULES_PER_MILLIJOULE = 1e-6, 1e-3
_TICKS_PER_SECOND = 100
"""Unit of ``/proc/stat`` (USER_HZ), the same on every Linux machine."""

_IDLE_COLUMNS = (3, 4)
"""Columns ``idle`` and ``iowait`` of the first line of ``/proc/stat``."""


@dataclass(frozen=True)
class PackageCounters:
    """RAPL counters of all processor packages of this machine.

    Attributes:
        files: ``energy_uj`` of each package, which counts microjoules and starts again at its limit.
        limits: Limit of each counter, in microjoules.
    """

    files: tuple[Path, ...]
    limits: tuple[int, ...]

    @classmethod
    def here(cls, powercap: Path = POWERCAP) -> PackageCounters | None:
        """Return the counters of this machine, None if it has none or they cannot be read."""
        packages = sorted(
            folder
            for folder in powercap.glob("intel-rapl:*")
            if folder.name.count(":") == 1 and _text(folder / "name").startswith("package")
        )
        files = tuple(folder / "energy_uj" for folder in packages)
        limits = tuple(_text(folder / "max_energy_range_uj") for folder in packages)
        if not files or not all(_text(file).isdecimal() for file in files) or not all(map(str.isdecimal, limits)):
            return None
        return cls(files, tuple(map(int, limits)))

    def read(self) -> tuple[int, ...]:
        """Return the counters, in microjoules; nothing if one of them no longer answers."""
        texts = [_text(file) for file in self.files]
        return tuple(map(int, texts)) if all(map(str.isdecimal, texts)) else ()

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the energy between two readings; a counter restarts at most once between them."""
        readings = zip(before, after, self.limits, strict=True)
        steps = (new - old if new >= old else new - old + limit for old, new, limit in readings)
        return sum(steps) * _JOULES_PER_MICROJOULE


class EnergyMeter:
    """Adds up the energy of the work of this process.

    Args:
        watts_per_core: Assumed power of a busy processor core, used without a readable counter.
        share_of_gpu: Part of its GPU that this worker reserves; with 0 its energy on a GPU is unknown.
        counters: RAPL counters, None to estimate.
    """

    def __init__(self, watts_per_core: float, share_of_gpu: float, counters: PackageCounters | None) -> None:
        """Find the counter of the GPU."""
        self._watts, self._counters = watts_per_core, counters
        self._gpu = gpu_counter() if torch.cuda.is_available() and share_of_gpu > 0 else None
        self._share_of_gpu = min(1.0, share_of_gpu)
        cpu = CpuSource.ESTIMATE if counters is None else CpuSource.RAPL
        self.total = EnergyUse(cpu_source=cpu, gpu_source=self._gpu_source(), watts_per_core=watts_per_core)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add what the work inside uses to ``total``; work that raises is counted too."""
        before = self._readings()
        try:
            yield
        finally:
            self.total += self._use(before, self._readings())

    def count(self, images: int) -> None:
        """Add finished images to ``total``."""
        self.total += self.total.nothing(images=images)

    def _gpu_source(self) -> GpuSource:
        if not torch.cuda.is_available():
            return GpuSource.NO_GPU
        return GpuSource.UNKNOWN if self._gpu is None else GpuSource.NVML

    def _readings(self) -> _Readings:
        return _Readings(
            process=time.process_time(),
            busy=0.0 if self._counters is None else busy_seconds(),
            packages=() if self._counters is None else self._counters.read(),
            gpu=0.0 if self._gpu is None else self._gpu(),
            wall=time.monotonic(),
        )

    def _use(self, before: _Readings, after: _Readings) -> EnergyUse:
        seconds, source = after.process - before.process, CpuSource.RAPL
        if self._counters is not None and before.packages and after.packages:
            part = min(1.0, seconds / max(after.busy - before.busy, 1 / _TICKS_PER_SECOND))
            cpu = part * self._counters.joules(before.packages, after.packages)
        else:
            cpu, source = seconds * self._watts, CpuSource.ESTIMATE
        gpu = (after.gpu - before.gpu) * self._share_of_gpu
        used = self.total.nothing(cpu_joules=cpu, gpu_joules=gpu, seconds=after.wall - before.wall)
        return replace(used, cpu_source=source)


@dataclass(frozen=True)
class _Readings:
    """Counters at one time: processor seconds of the process and of the machine, microjoules, joules, seconds."""

    process: float
    busy: float
    packages: tuple[int, ...]
    gpu: float
    wall: float


def gpu_counter() -> Callable[[], float] | None:
    """Return a reader of the energy in joules that this process's GPU has used; None if it has no such counter."""
    try:
        pynvml.nvmlInit()
        name = f"GPU-{uuid.UUID(str(torch.cuda.get_device_properties(0).uuid))}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(name.encode())
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * _JOULES_PER_MILLIJOULE


def busy_seconds(file: Path = BUSY_TIMES) -> float:
    """Return the processor time of all processes of this machine since its start, in seconds."""
    columns = [int(text) for text in _text(file).splitlines()[0].split()[1:9]]
    return (sum(columns) - sum(columns[number] for number in _IDLE_COLUMNS)) / _TICKS_PER_SECOND


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
