"""Peak memory of a dissection with few and with many trajectories, beside the forecast.

``python -m benchmarks.lens_memory --trajectories 64 640 640 --recorded 64 640 64``. The model is a tiny Stable
Diffusion with random weights. Its maps are much smaller than those of a real model, so the budgets of block and buffer
are lowered as well; otherwise 640 trajectories would not fill them. Each dissection has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

BLOCK_BYTES, BUFFER_BYTES = 2 << 20, 4 << 20
PIXELS, CHANNELS, STEPS = 64, 64, 8
GROUPS = {"tint": ("dark", "bright")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, nargs="+", default=[64, 640, 640])
    parser.add_argument("--recorded", type=int, nargs="+", default=[64, 640, 64], help="Those with whole maps.")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pairs = list(zip(arguments.trajectories, arguments.recorded, strict=True))
    if arguments.model is not None:
        print(json.dumps(dissected(arguments.model, *pairs[0])))
        return
    with tempfile.TemporaryDirectory() as directory:
        from benchmarks.tiny_models import save_tiny_pipeline

        model = save_tiny_pipeline(Path(directory), width=CHANNELS)
        for trajectories, recorded in pairs:
            counts = ["--trajectories", str(trajectories), "--recorded", str(recorded)]
            command = [sys.executable, "-m", "benchmarks.lens_memory", "--model", str(model), *counts]
            finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # its errors are shown
            found = {
                key: f"{value / 1e6:.0f} MB" for key, value in json.loads(finished.stdout.splitlines()[-1]).items()
            }
            print(f"{trajectories} trajectories, {recorded} recorded")
            print(f"  disk {found['disk']}, forecast {found['disk_forecast']}")
            print(
                f"  memory beside the model while it samples {found['sampling']}, afterwards {found['fitting']}", end=""
            )
            print(f", forecast {found['memory_forecast']}", flush=True)


def dissected(model: Path, trajectories: int, recorded: int) -> dict[str, int]:
    """Dissect a model and return bytes: recorded, peak memory beside the model, and the forecast of both."""
    from audit.config.sections import ModelConfig, SamplingConfig
    from audit.dissect import build, settings
    from audit.dissect.recording import forecast, layout
    from audit.dissect.recording.plan import RecordingPlan
    from audit.dissect.recording.recorder import Recorder
    from audit.dissect.recording.recording import Recording
    from audit.models.generator import load_generator
    from audit.records.work import Prompt

    usual = layout.training_of
    settings.BLOCK_BYTES = BLOCK_BYTES
    for module in (layout, build, forecast):
        module.training_of = lambda of: replace(usual(of), buffer_bytes=BUFFER_BYTES, batch=512)  # type: ignore[attr-defined]
    chosen = settings.Dissection(
        hookpoint="mid_block",
        whole_map=False,
        expansion=4,
        k=8,
        trajectories=trajectories,
        recorded=recorded,
        sae_steps=100,
        features_per_group=8,
        baseline="counterfactual",
        steps=STEPS,
        guidance=2.0,
        batch=16,
        seed=0,
    )
    generator = load_generator(
        ModelConfig(source=str(model)),
        SamplingConfig(steps=STEPS, guidance=2.0, scheduler="DDIMScheduler", height=PIXELS, width=PIXELS),
    )
    template = "a face photo of {a} {occupation}"
    prompts = [Prompt(name, f"a face photo of a {name}", name) for name in ("doctor", "nurse")]
    with tempfile.TemporaryDirectory() as directory:
        generator.sample([prompts[0].text] * chosen.batch, list(range(chosen.batch)))
        alone = peak(lambda: generator.sample([prompts[0].text] * chosen.batch, list(range(chosen.batch))))
        place, planned = Path(directory), RecordingPlan.of(prompts, GROUPS, template, [chosen])
        recorder = Recorder(generator, TintJudge(), GROUPS, planned)
        sampling = peak(lambda: recorder.record_all(place))
        disk = sum(file.stat().st_size for file in place.rglob("*.bin"))
        recording = Recording.open(place, planned, chosen)
        checkpoint = place / "training.safetensors"
        fitting = peak(lambda: build.build_lens(recording, GROUPS, chosen, {}, generator.fingerprint, checkpoint))
    expected = forecast.forecast([chosen], [2], generator.steps, {chosen.hookpoint: recording.shape})
    return {
        "disk": disk,
        "disk_forecast": expected.disk,
        "sampling": sampling - alone,
        "fitting": fitting,
        "memory_forecast": expected.memory,
    }


class TintJudge:
    """Classifies a picture as bright if it is brighter than the median of its batch."""

    signature = "judge:tint"

    def perceive(self, images, occupation):
        """Return the tint of each picture."""
        import numpy as np

        from audit.perception.judges.perceived import Perceived
        from audit.records.work import Status

        brightness = images.float().mean((1, 2, 3)).numpy()
        bright = 1 / (1 + np.exp(-(brightness - np.median(brightness))))
        return Perceived({"tint": np.stack([1 - bright, bright], 1)}, [Status.CLASSIFIED] * len(images), None)


def peak(work: Callable[[], object]) -> int:
    """Return the bytes of memory that a call needs beyond what is resident before it."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts at what is resident now
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """Return the bytes that are resident now (``VmRSS``) or were at most (``VmHWM``)."""
    status = Path("/proc/self/status").read_text()  # not getrusage: its peak is inherited from the parent
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


if __name__ == "__main__":
    main()
