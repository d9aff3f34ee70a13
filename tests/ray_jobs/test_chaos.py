"""An audit whose workers, node and driver are killed gives the rows of one that nothing happened to."""

import os
import subprocess
import sys


def test_the_rows_do_not_depend_on_nodes_nor_on_what_is_killed():
    command = [sys.executable, "-m", "benchmarks.chaos", "--kills", "3", "--nodes", "2", "--sizes", "1", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "identical rows with 1, 2 nodes" in done.stdout
    assert "identical rows after 3 kills, no finished shard computed twice" in done.stdout
    for killed in ("worker", "node", "driver"):
        assert f"killed a {killed} at " in done.stdout
