"""Measures the time of ``difflens-audit --help``, compared with ``ray --help`` and ``mlflow --help``.

``python -m benchmarks.cli_latency`` interleaves the commands, prints medians, and fails if ours is not under 0.3 s.
"""

import argparse
import statistics
import subprocess
import sys
import time

LIMIT_SECONDS = 0.3

COMMANDS = {
    "difflens-audit --help": "from ray_jobs.cli.commands import app; app()",
    "ray --help": "from ray.scripts.scripts import main; main()",
    "mlflow --help": "from mlflow.cli import cli; cli()",
}
"""Entry points of the installed scripts, run with the current interpreter."""


def main() -> int:
    """Time every command in turn, several rounds, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, code in COMMANDS.items():
            taken = _time(code)
            if number:  # the first round only warms the file cache
                seconds[name].append(taken)
    print(f"{'command':<24}{'median':>9}{'fastest':>9}{'slowest':>9}   n = {rounds}")
    for name, times in seconds.items():
        print(f"{name:<24}{statistics.median(times):>8.3f}s{min(times):>8.3f}s{max(times):>8.3f}s")
    ours = statistics.median(seconds["difflens-audit --help"])
    print(f"limit {LIMIT_SECONDS} s: {'met' if ours < LIMIT_SECONDS else 'MISSED'}")
    return int(ours >= LIMIT_SECONDS)


def _time(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
