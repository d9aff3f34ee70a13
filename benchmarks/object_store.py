"""Counts requests to an object store: the driver's listing of finished shards, and a worker's requests per shard.

``python -m benchmarks.object_store`` counts requests to a moto server in this process. The seconds depend on that
server, which sorts every object for each page; only the counts are valid for other stores.
"""

import argparse
import os
import resource
import time

import numpy as np
import pyarrow as pa

from audit.storage.place import ObjectPath
from audit.storage.run_directory import RunDirectory
from benchmarks.s3_server import BUCKET, S3Server, environment, free_port


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    arguments = parser.parse_args()
    port = free_port()
    os.environ |= environment(port)
    print(f"{'shards':>8} {'listed':>8} {'requests':>9} {'of one object':>14} {'seconds':>8} {'peak MiB more':>14}")
    with S3Server(port) as server:
        for shards in arguments.shards:
            print_listing(server, shards)
        print_shard(server)


def print_listing(server, shards):
    run = RunDirectory(ObjectPath("s3", f"{BUCKET}/{shards}"))
    for number in range(shards):
        server.objects.put_object(BUCKET, f"{shards}/shards/nurse-{number:06d}.parquet", b"x")
    server.requests.clear()
    before, began = peak_mib(), time.perf_counter()
    listed = len(run.finished())
    seconds = time.perf_counter() - began
    single = len(server.requests) - len(server.asked("GET", "list-type=2"))
    print(f"{shards:8,} {listed:8,} {len(server.requests):9,} {single:14} {seconds:8.1f} {peak_mib() - before:14.0f}")


def print_shard(server):
    run = RunDirectory(ObjectPath("s3", f"{BUCKET}/one"))
    server.requests.clear()
    if not run.is_finished("nurse-0000"):
        run.write_shard("nurse-0000", pa.table({"index": [0]}), {"attribution": {"images": np.array(1)}})
    print("one shard:", ", ".join(f"{request.method} {request.path}" for request in server.requests))


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
