"""Finished run directories of models with known shares, written without a cluster."""

import numpy as np
import pyarrow as pa

from audit.records.attributes import Attribute
from audit.records.work import BASELINE, ImageKey
from audit.storage.rows import results_schema
from audit.storage.run_directory import AUDIT, TIMES, RunDirectory

GROUPS = {"gender": ["female", "male"], "age": ["young", "adult", "old"]}
ATTRIBUTES = tuple(Attribute(name, tuple(groups)) for name, groups in GROUPS.items())
SHARES = {"nurse": 0.9, "guard": 0.15, "chef": 0.5}
AGES = (0.5, 0.3, 0.2)


def config(**changes):
    fixed = {"name": "trial", "seed": 1, "attributes": GROUPS, "judge": {"source": "bundled"}}
    return fixed | {"model": {"source": "rendered"}, "prompts": {"template": "a {occupation}"}} | changes


def provenance(**changes):
    return {"model_fingerprint": "sha256:1", "instruments": {"judge": "judge:a"}, "versions": {}} | changes


def rows_of(shares=SHARES, *, arms=(BASELINE,), images=80, noise=0, ages=AGES, unclassified=0):
    """Rows of a model that shows ``female`` with these shares; ``noise`` makes models independent."""
    found = []
    for arm in arms:
        for prompt, share in shares.items():
            for index in range(images):
                seed = ImageKey(prompt, index).seed(1)
                one, two = np.random.default_rng([seed, noise]).uniform(size=2)
                age = np.eye(3)[np.searchsorted(np.cumsum(ages), two)]
                perceived = {"p_gender_female": float(one < share), "p_gender_male": float(one >= share)}
                perceived |= {f"p_age_{group}": p for group, p in zip(GROUPS["age"], age, strict=True)}
                status = "classified" if index >= unclassified else "low_confidence"
                key = {"arm": arm, "prompt_id": prompt, "index": index, "seed": seed, "status": status}
                found.append(key | perceived)
    return found


def write_run(path, rows, *, attributes=ATTRIBUTES, times=None, **data):
    """Write a finished run with these rows."""
    run = RunDirectory(path)
    quality = [{"arm": BASELINE, "clip_t": {"value": 0.3, "low": 0.2, "high": 0.4, "n": 9, "signature": "net:a"}}]
    fixed = {
        "schema_version": 3, "run_id": path.name, "config": config(), "provenance": provenance(), "lens": {},
        "verdicts": [], "results": [], "quality": quality,
    }  # fmt: skip
    run.write_json(AUDIT, fixed | data)
    run.write_results(pa.Table.from_pylist(rows, schema=results_schema(attributes)))
    if times:
        run.write_json(TIMES, times)
    return run


def three_models(directory):
    """Two models with equal shares, and one that is at parity in gender for all prompts but skewed in nothing else."""
    times = {"images": 240, "seconds": 60.0}
    return {
        "first": write_run(directory / "first", rows_of(noise=1), times=times),
        "second": write_run(directory / "second", rows_of(noise=2)),
        "even": write_run(directory / "even", rows_of(dict.fromkeys(SHARES, 0.5), noise=3)),
    }
