"""Peak memory of the driver in a large audit: the rendered model, 20,000 image rows by default.

``python -m benchmarks.driver_memory --rows 20000 100000`` shows how it grows with the rows. Each audit runs in its own
process, whose peak resident set is read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time

PROGRAM = """
import json, pathlib, sys
from audit.config.settings import AuditConfig
from ray_jobs.run.audit import run_audit
config = AuditConfig.model_validate(json.loads(sys.argv[1]))
outcome = run_audit(config)
rows = sum(row.n for row in outcome.result.overall if row.attribute == "gender")
status = pathlib.Path("/proc/self/status").read_text()  # not getrusage: its peak is inherited from the parent
print(json.dumps({"peak_kib": int(status.split("VmHWM:")[1].split()[0]), "classified": rows}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000])
    for rows in parser.parse_args().rows:
        started = time.monotonic()
        measured = audited(rows)
        print(f"{rows} rows ({measured['classified']} classified) in {time.monotonic() - started:.0f} s")
        print(f"driver peak resident set: {measured['peak_kib'] / 1024:.0f} MiB", flush=True)


def audited(rows: int) -> dict[str, int]:
    """Audit this number of images and return the driver's memory."""
    with tempfile.TemporaryDirectory() as output:
        config = {
            "name": "driver-memory",
            "model": {"source": "rendered"},
            "prompts": {"images_per_prompt": rows // 16},
            "sampling": {"batch": 125},
            "output": output,
        }
        command = [sys.executable, "-c", PROGRAM, json.dumps(config)]
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # its errors are shown
    found: dict[str, int] = json.loads(finished.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
