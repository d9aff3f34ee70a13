"""A run directory contains only complete files, refuses another run's config, and writes equal rows as equal bytes."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.storage.local_files import write_atomically
from audit.storage.run_directory import CONFIG, PROVENANCE, RESULTS, RunConflictError, RunDirectory, image_name

CONFIG_DATA = {
    "name": "a",
    "seed": 0,
    "sampling": {"steps": 25},
    "workers": {"count": 1},
    "prompts": {"ids": ["x", "y"]},
}


@pytest.fixture
def run(place):
    run = RunDirectory(place)
    run.create(CONFIG_DATA, {"torch": "1"})
    return run


@pytest.fixture
def local_run(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG_DATA, {"torch": "1"})
    return run


def rows(n=3, start=0):
    return pa.table({"index": pa.array(range(start, start + n), pa.int32()), "arm": ["baseline"] * n})


def test_a_shard_is_read_back_with_its_attribution(run):
    attribution = {"attribution/gender": np.arange(6, dtype=np.float32).reshape(2, 3), "images": np.array(3)}
    run.write_shard("nurse-0001", rows(), {"attribution": attribution})
    run.write_shard("nurse-0002", rows(2, start=3))
    assert run.finished() == {"nurse-0001", "nurse-0002"}
    assert run.read_shard("nurse-0001").equals(rows())
    found = run.read_part("attribution", "nurse-0001")
    assert int(found["images"]) == 3
    np.testing.assert_array_equal(found["attribution/gender"], attribution["attribution/gender"])
    assert run.read_part("attribution", "nurse-0002") is None
    assert [t["index"].to_pylist() for t in run.read_rows(["nurse-0002", "nurse-0001"])] == [[3, 4], [0, 1, 2]]


def test_a_strided_attribution_is_stored_with_its_values(run):
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    run.write_shard("a-0000", rows(), {"attribution": {"attribution/age": array}})
    np.testing.assert_array_equal(run.read_part("attribution", "a-0000")["attribution/age"], array)


def test_resuming_accepts_changes_without_effect_on_results_and_keeps_the_provenance(run):
    changed = {**CONFIG_DATA, "workers": {"count": 3}, "report": {"max_mb": 5}, "prompts": {"ids": ("x", "y")}}
    run.create(changed, {"torch": "2"})
    assert run.read_json(CONFIG)["workers"] == {"count": 3}
    assert run.read_json(PROVENANCE) == {"torch": "1"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling": {"steps": 50}}, "sampling.steps was 25, now it is 50"),
        ({"seed": 1}, "seed was 0, now it is 1"),
        ({"quality": {"clip": "none"}}, "quality was null"),
        ({"prompts": {"ids": ["x"]}}, r'prompts.ids was \["x", "y"\]'),
    ],
)
def test_another_config_is_refused_with_the_first_difference(run, change, message):
    with pytest.raises(RunConflictError, match=message):
        run.create({**CONFIG_DATA, **change}, {})
    assert run.read_json(CONFIG) == CONFIG_DATA


@pytest.mark.parametrize("section", ["explore", "concepts", "compositions"])
def test_a_section_of_another_command_does_not_start_an_audit_over(place, section):
    run = RunDirectory(place)
    run.create({"name": "x"}, {"model_fingerprint": "aa"})
    run.create({"name": "x", section: {"images": 3}}, {"model_fingerprint": "aa"})
    assert section in run.read_json(CONFIG)


def test_another_model_is_refused(place):
    run = RunDirectory(place)
    run.create(CONFIG_DATA, {"model_fingerprint": "aa"})
    with pytest.raises(RunConflictError, match='model_fingerprint was "aa", now it is "bb"'):
        run.create(CONFIG_DATA, {"model_fingerprint": "bb"})


def test_shards_of_an_unknown_config_are_refused(place):
    run = RunDirectory(place)
    run.write_shard("a-0000", rows())
    with pytest.raises(RunConflictError, match=r"no config\.json"):
        run.create(CONFIG_DATA, {})


def test_an_empty_shard_is_refused_and_an_unfinished_one_is_named(run):
    with pytest.raises(ValueError, match="a-0000 has no rows"):
        run.write_shard("a-0000", rows(0))
    with pytest.raises(FileNotFoundError, match="a-0000 is not finished"):
        run.read_shard("a-0000")
    assert run.finished() == set()


def test_a_writer_killed_before_the_rename_leaves_no_finished_shard(local_run):
    script = textwrap.dedent("""
        import os, pathlib, signal, sys
        import pyarrow as pa
        from audit.storage.run_directory import RunDirectory
        pathlib.Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
        RunDirectory(pathlib.Path(sys.argv[1])).write_shard("a-0000", pa.table({"index": [1]}))
    """)
    process = subprocess.run(
        [sys.executable, "-c", script, local_run.path], check=False, env={**os.environ, "PYTHONPATH": "."}
    )
    assert process.returncode == -signal.SIGKILL
    assert [path.suffix for path in (local_run.path / "shards").iterdir()] == [".tmp"]
    assert local_run.finished() == set()
    local_run.write_shard("a-0000", rows())
    assert local_run.finished() == {"a-0000"}
    assert local_run.read_shard("a-0000").equals(rows())


def test_an_attribution_without_its_rows_is_not_a_finished_shard(run, monkeypatch):
    monkeypatch.setattr("audit.storage.run_directory._parquet_bytes", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.write_shard("a-0000", rows(), {"attribution": {"images": np.array(3)}})
    assert run.read_part("attribution", "a-0000") is not None
    assert run.finished() == set()


def test_a_failed_write_leaves_the_old_file_and_no_temporary_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_equal_rows_give_equal_bytes_regardless_of_chunks_and_metadata(run):
    run.write_results(rows(9))
    whole = run.read_bytes(RESULTS)
    pieces = [rows(4), rows(5, start=4).replace_schema_metadata({"pandas": "noise"})]
    run.write_results(pa.concat_tables(piece.replace_schema_metadata(None) for piece in pieces))
    assert run.read_bytes(RESULTS) == whole
    run.write_results(rows(9).replace_schema_metadata({"made": "today"}))
    assert run.read_bytes(RESULTS) == whole
    assert run.read_results().equals(rows(9))


def test_any_reader_of_parquet_reads_a_shard(run):
    run.write_shard("a-0000", rows())
    with run.on_disk("shards/a-0000.parquet") as path:
        assert pq.read_table(path).equals(rows())


def test_images_of_one_key_are_in_one_folder():
    assert image_name("nurse", 7, "baseline") == "images/nurse/00007-baseline.webp"
    assert image_name("nurse", 7, "gender") == "images/nurse/00007-gender.webp"


def test_nan_is_refused_in_json(run):
    with pytest.raises(ValueError, match="JSON"):
        run.write_json("audit.json", {"value": float("nan")})
    assert not run.has("audit.json")
