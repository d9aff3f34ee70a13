"""The energy of a worker: counters where the machine has them, an estimate where it has none, sums over workers."""

import subprocess
import sys
import time

import pytest
import torch

from audit.generation.energy import EnergyMeter, PackageCounters, busy_seconds
from audit.records.energy import CpuSource, EnergyUse, GpuSource, energy_of
from reports.figures.evidence.energy import energy_words

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU adds its own energy")


def powercap(folder, microjoules, limit=262_143_328_850):
    """Write counters as Linux shows them: packages, a core domain below one, and a counter that is no package."""
    names = {"intel-rapl:0": "package-0", "intel-rapl:1": "package-1", "intel-rapl:0:0": "core", "intel-rapl:2": "psys"}
    for name, kind in names.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "name").write_text(f"{kind}\n")
        (folder / name / "energy_uj").write_text(f"{microjoules}\n")
        (folder / name / "max_energy_range_uj").write_text(f"{limit}\n")
    return folder


def work(seconds=0.15):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def fail_after_work():
    work()
    return 1 / 0


def test_only_packages_are_added(tmp_path):
    counters = PackageCounters.here(powercap(tmp_path, 100))
    assert [file.parent.name for file in counters.files] == ["intel-rapl:0", "intel-rapl:1"]
    powercap(tmp_path, 3_000_100)
    assert counters.joules((100, 100), counters.read()) == pytest.approx(6.0)


def test_a_counter_that_starts_again_at_its_limit_loses_nothing(tmp_path):
    counters = PackageCounters.here(powercap(tmp_path, 9_000_000, limit=10_000_000))
    assert counters.joules((9_000_000, 9_000_000), (2_000_000, 9_500_000)) == pytest.approx(3.5)


@pytest.mark.parametrize("broken", ["nothing", "no name", "text", "no limit"])
def test_counters_that_cannot_be_read_are_none(tmp_path, broken):
    folder = tmp_path / "powercap"
    if broken != "nothing":
        powercap(folder, 1)
    for package in folder.glob("intel-rapl:?"):
        if broken == "no name":
            (package / "name").unlink()
        elif broken == "text":
            (package / "energy_uj").write_text("permission denied")
        else:
            (package / "max_energy_range_uj").unlink()
    assert PackageCounters.here(folder) is None


@NO_GPU
def test_without_a_counter_energy_is_processor_time_times_the_assumed_power():
    meter = EnergyMeter(watts_per_core=20.0, share_of_gpu=1.0, counters=None)
    before = time.process_time()
    with meter.measured():
        work()
    spent = time.process_time() - before
    assert meter.total.cpu_source is CpuSource.ESTIMATE
    assert meter.total.gpu_source is GpuSource.NO_GPU
    assert 0.15 * 20 <= meter.total.cpu_joules <= spent * 20


def test_a_package_is_divided_by_processor_time(tmp_path):
    meter = EnergyMeter(watts_per_core=1.0, share_of_gpu=1.0, counters=PackageCounters.here(powercap(tmp_path, 0)))
    rival = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with meter.measured():
            work(0.5)
            powercap(tmp_path, 1_000_000)
    finally:
        rival.kill()
        rival.wait()
    assert meter.total.cpu_source is CpuSource.RAPL
    assert 0.05 < meter.total.cpu_joules < 1.9  # of the 2 J of both packages, the rival has its part


def test_a_counter_that_stops_answering_is_replaced_by_an_estimate(tmp_path):
    meter = EnergyMeter(10.0, 0.0, PackageCounters.here(powercap(tmp_path, 0)))
    with meter.measured():
        work()
    assert meter.total.cpu_source == CpuSource.RAPL
    with meter.measured():
        work()
        (tmp_path / "intel-rapl:1" / "energy_uj").write_text("")
    assert meter.total.cpu_source == CpuSource.BOTH
    assert meter.total.cpu_joules == pytest.approx(1.5, abs=0.5)  # 0.15 s at 10 W


def test_work_that_raises_is_counted():
    meter = EnergyMeter(watts_per_core=20.0, share_of_gpu=1.0, counters=None)
    with pytest.raises(ZeroDivisionError), meter.measured():
        fail_after_work()
    assert meter.total.cpu_joules >= 0.15 * 20


def test_a_gpu_that_a_worker_does_not_reserve_has_unknown_energy_and_not_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    meter = EnergyMeter(watts_per_core=20.0, share_of_gpu=0.0, counters=None)
    assert meter.total.gpu_source is GpuSource.UNKNOWN


def test_busy_time_of_the_machine_leaves_idle_time_out(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 4000 500 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
    assert busy_seconds(stat) == pytest.approx((100 + 20 + 30 + 6 + 7 + 8) / 100)
    before = busy_seconds()
    work(0.3)
    assert busy_seconds() - before > 0.2


def use(cpu=CpuSource.ESTIMATE, gpu=GpuSource.NO_GPU, **figures):
    return EnergyUse(cpu_source=cpu, gpu_source=gpu, watts_per_core=10.0, **figures)


def test_uses_of_workers_add_and_an_unknown_gpu_stays_unknown():
    total = energy_of(
        [
            use(cpu_joules=3.6e6, images=3, seconds=1.0),
            use(cpu=CpuSource.RAPL, gpu=GpuSource.NVML, gpu_joules=7.2e6, images=4, seconds=2.0),
        ]
    )
    assert (total.kwh, total.images, total.seconds) == (3.0, 7, 3.0)
    assert (total.cpu_source, total.gpu_source) == (CpuSource.BOTH, GpuSource.NVML)
    assert (total + use(gpu=GpuSource.UNKNOWN)).gpu_source is GpuSource.UNKNOWN
    assert EnergyUse.of_data(total.as_data()) == total
    assert energy_of([]) is None


def test_the_sentence_says_what_is_measured_and_what_is_estimated():
    said = energy_words({"energy": use(cpu_joules=7.2e6, images=1000).as_data()})
    assert said.startswith("2 kWh for 1000 images, 2 Wh per image.")
    assert "not measured, but estimated from processor time with 10 W per busy core" in said
    missing = energy_words({"energy": use(gpu=GpuSource.UNKNOWN, cpu_joules=1.0, images=1).as_data()})
    assert "at least one has no readable counter" in missing
    assert energy_words({}) == ""
