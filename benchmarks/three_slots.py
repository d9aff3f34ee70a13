"""A schedule that nobody attends: three audits that say "no change", and a fourth that calls a planted one.

``python -m benchmarks.three_slots`` starts a real MLflow server on loopback and ``difflens-audit schedule run`` with a
slot a minute, on the bundled calibration model. The server is down while the second audit runs. After the third the
lens is switched off: every strength in its file is 0, as if somebody had replaced the file under its name. The series
must show three points and no alarm, then the change; ``sync`` must give MLflow the audit that it missed, and find
nothing more to tell when it is called again. The last report shows the whole series.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audit.config.settings import AuditConfig
from audit.results.comparison.slots import Journal, series_of
from audit.results.comparison.trend import Point, Trend, read_trend
from audit.storage.run_directory import REPORT, RunDirectory
from benchmarks.lens_off import copy_bundled_lens, switch_off
from benchmarks.mlflow_server import MlflowServer
from ray_jobs.schedule.alerts import ALERTS

SLOTS = 4
SLOT_SECONDS = 900.0
"""Until a slot that does not end is called a failure."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=1, help="between slots; a busy machine needs more")
    parser.add_argument("--images", type=int, default=16, help="per occupation and arm")
    parser.add_argument("--output", type=Path, default=Path("build/three-slots"), help="is emptied first")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.output, ignore_errors=True)
    arguments.output.mkdir(parents=True)
    server = MlflowServer(arguments.output.absolute())
    watched = Watched(arguments.output.absolute(), server, arguments.images)
    try:
        server.start()
        problems = [*unattended(watched, arguments.minutes), *told_later(watched)]
    except TimeoutError as error:
        problems = [str(error)]
    finally:
        server.stop()
    print("\n".join(problems) or "three points and no alarm, then the planted change; MLflow has all four, once")
    sys.exit(1 if problems else 0)


@dataclass(frozen=True)
class Watched:
    """A schedule and what it writes to.

    Attributes:
        output: Holds everything.
        server: Where it tracks.
        images: Per occupation and arm.
    """

    output: Path
    server: MlflowServer
    images: int

    @property
    def lens(self) -> Path:
        """The lens that the config names, a copy of the bundled one."""
        return self.output / "lens"

    @property
    def config(self) -> AuditConfig:
        """Three occupations before and after DiffLens, in as few images as show it."""
        return AuditConfig.model_validate(
            {
                "name": "three-slots",
                "prompts": {
                    "occupations": ["doctor", "nurse", "firefighter"],
                    "images_per_prompt": self.images,
                    "attribution": False,
                },
                "sampling": {"batch": 8},
                "quality": {"clip": "none", "features": "none"},
                "lens": {"path": str(self.lens)},
                "mitigations": [{"name": "difflens-gender", "method": "difflens", "attribute": "gender"}],
                "tracking": {"uri": self.server.url},
                "output": str(self.output / "runs"),
            }
        )

    @property
    def done(self) -> list[str]:
        """Slots whose audit is done, in order."""
        records = Journal.of(Path(self.config.output), self.config.name).records()
        return [record.slot for record in records if record.state == "done"]

    @property
    def runs(self) -> list[RunDirectory]:
        """Run directories of the series, in the order of their slots."""
        return [RunDirectory(path) for path in sorted(Path(self.config.output).glob(f"{series_of(self.config)}-*"))]


def unattended(watched: Watched, minutes: int) -> list[str]:
    """Run the schedule, take the server away for the second slot and the lens after the third; return problems."""
    copy_bundled_lens(watched.lens)
    path = watched.output / "audit.yaml"
    path.write_text(watched.config.model_dump_json())
    command = [sys.executable, "-m", "ray_jobs", "schedule", "run", str(path), "--times", str(SLOTS)]
    steps = [watched.server.stop, watched.server.start, lambda: switch_off(watched.lens)]
    with (watched.output / "schedule.log").open("wb") as log:
        schedule = subprocess.Popen([*command, "--cron", f"*/{minutes} * * * *"], stdout=log, stderr=log)
    try:
        for number, then in enumerate([*steps, schedule.wait], start=1):
            wait_for(lambda number=number: len(watched.done) >= number, f"audit {number} in the journal", schedule)
            then()
    finally:
        schedule.terminate()
        schedule.wait()
    return judged(watched)


def wait_for(condition: Callable[[], bool], what: str, schedule: subprocess.Popen[bytes]) -> None:
    """Wait for something that the schedule does.

    Raises:
        TimeoutError: If it does not, or ended before.
    """
    end = time.monotonic() + SLOT_SECONDS
    while not condition():
        if time.monotonic() > end or schedule.poll() is not None:
            raise TimeoutError(f"expected {what}, found none; schedule.log tells more")
        time.sleep(0.2)


def judged(watched: Watched) -> list[str]:
    """Print the series and return what is wrong with it."""
    trend = read_trend(watched.runs[-1])
    if trend is None:
        return ["expected the series in the last run, found none"]
    for point in trend.points:
        print(f"{point.slot}  {told(point)}")
    alerts = json.loads((Path(watched.config.output) / "schedule" / watched.config.name / ALERTS).read_text())
    print("\n".join(alert["message"] for alert in alerts["alerts"]))
    print(f"report: {watched.runs[-1].file(REPORT)}")
    return wrong(trend)


def told(point: Point) -> str:
    """One line of a run: its discrepancies, and what was called."""
    figures = [f"{row.arm} {row.value:.3f}" for row in point.headlines if row.attribute == "gender"]
    called = f"{len(point.check.called)} of {point.check.figures} figures changed" if point.check else "the first"
    return f"gender discrepancy {', '.join(figures)}; {called}"


def wrong(trend: Trend) -> list[str]:
    """Compare the series with what was planted."""
    changed = [point.changed for point in trend.points]
    expected = [False] * (SLOTS - 1) + [True]
    return [] if changed == expected else [f"expected changes {expected}, found {changed}"]


def told_later(watched: Watched) -> list[str]:
    """Hand MLflow what the outage kept from it, twice; return what is wrong.

    On a busy machine other audits may wait as well: telling them took longer than ``tracking.timeout_seconds``.
    """
    first, second = sync(watched), sync(watched)
    problems = []
    if len(first) != SLOTS or not first[1]:
        problems.append(f"expected sync to tell the second of {SLOTS} audits, found {first} items sent")
    if any(second):
        problems.append(f"expected sync to tell nothing twice, found {second} items sent")
    return problems


def sync(watched: Watched) -> list[int]:
    """Call ``sync`` on all runs and return how many items of each MLflow took; nothing where it did not take all."""
    command = [sys.executable, "-m", "ray_jobs", "sync", watched.config.output, "--json"]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    sent = [row["sent"] for row in answer["runs"]]
    print(f"sync: exit code {answer['exit_code']}, items sent of each audit: {', '.join(map(str, sent))}")
    return [] if answer["exit_code"] else sent


if __name__ == "__main__":
    main()
