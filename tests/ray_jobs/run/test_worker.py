"""A worker turns a shard into rows and pictures on disk, the same ones however often it is asked, without a cluster."""

import numpy as np
import pytest
import torch
from PIL import Image

from audit.calibration.bundle import bundle_of
from audit.config.sections import ModelConfig, ReportConfig
from audit.config.slices import MeasurementRequest
from audit.perception.embedders.clip import ClipEmbedder
from audit.planning.plan import plan_shards, prompts_of
from audit.records.work import Status
from audit.storage.rows import FEATURES
from audit.storage.run_directory import RunDirectory, image_name
from ray_jobs.run.inputs import made_on
from ray_jobs.run.worker import INSTRUMENTS, SAMPLING, ShardWorker, WorkerSettings


def worker_of(config, path):
    request = MeasurementRequest.of(config)
    return ShardWorker(WorkerSettings(request, config.report, str(path), None, str(path.parent)))


def shards_of(config):
    return plan_shards(prompts_of(config.prompts, ()), config.prompts.images_per_prompt, config.sampling.batch)


@pytest.fixture(autouse=True)
def _same_directory_and_threads(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_shard_becomes_one_row_per_image_with_its_seed_and_probabilities(audit, tmp_path):
    config, run = audit(), RunDirectory(tmp_path / "run")
    shard = shards_of(config)[1]
    receipt = worker_of(config, run.path).do(shard)
    table = run.read_shard(shard.id)
    assert table["index"].to_pylist() == [4, 5, 6, 7]
    assert table["seed"].to_pylist() == [key.seed(config.seed) for key in shard.keys]
    genders = table["p_gender_female"].to_numpy() + table["p_gender_male"].to_numpy()
    np.testing.assert_allclose(genders, 1, atol=1e-6)
    assert {len(row) for row in table[FEATURES].to_pylist()} == {64}
    assert (receipt.images, receipt.statuses) == (4, {"classified": 4})


def test_a_short_last_shard_has_its_own_images_only_and_they_do_not_depend_on_the_batch(audit, tmp_path):
    whole, padded = audit(sampling={"batch": 10}), audit()
    run_whole, run_padded = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "padded")
    [first, *_], tail = shards_of(whole), shards_of(padded)[2]
    assert tail.indices == (8, 9)
    worker_of(whole, run_whole.path).do(first)
    receipt = worker_of(padded, run_padded.path).do(tail)
    expected, found = run_whole.read_shard(first.id).slice(8), run_padded.read_shard(tail.id)
    assert receipt.images == 2
    assert found["seed"].to_pylist() == expected["seed"].to_pylist()
    np.testing.assert_allclose(found["p_gender_male"].to_numpy(), expected["p_gender_male"].to_numpy(), atol=1e-6)


@pytest.mark.parametrize(("report", "kept"), [(ReportConfig(images_per_prompt=2), 2), (ReportConfig(keep="all"), 4)])
def test_the_first_pictures_are_kept_or_all_where_the_config_says_so(audit, tmp_path, report, kept):
    config, run = audit(report=report.model_dump()), RunDirectory(tmp_path / "run")
    worker = worker_of(config, run.path)
    worker.do(shards_of(config)[0])
    paths = sorted(run.file("images").rglob("*.webp"))
    assert paths == [run.file(image_name("doctor", index, "baseline")) for index in range(kept)]
    assert Image.open(paths[0]).size == (64, 64)


def test_energy_counts_the_images_of_a_shard_once_although_it_is_tried_again(audit, tmp_path, monkeypatch):
    config, run = audit(), RunDirectory(tmp_path / "run")
    shard, worker = shards_of(config)[0], worker_of(config, run.path)
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_shard", _disk_is_full)
        with pytest.raises(OSError, match="full"):
            worker.do(shard)
    worker.do(shard)
    assert made_on(run)["energy"]["images"] == 4


def test_a_shard_is_finished_although_its_energy_cannot_be_written(audit, tmp_path, monkeypatch, caplog):
    config, run = audit(), RunDirectory(tmp_path / "run")
    worker = worker_of(config, run.path)
    monkeypatch.setattr(RunDirectory, "write_json", _disk_is_full)
    assert worker.do(shards_of(config)[0]).images == 4
    assert "could not be written: the disk is full" in caplog.text


def test_a_file_that_a_killed_worker_left_half_written_is_not_read(audit, tmp_path):
    config, run = audit(), RunDirectory(tmp_path / "run")
    worker_of(config, run.path).do(shards_of(config)[0])
    before = made_on(run)
    for folder in ("energy", "compute"):
        run.write_bytes(f"{folder}/.0123.json.4567.tmp", b'{"cpu_sou')
    assert made_on(run) == before


def _disk_is_full(*_):
    raise OSError("the disk is full")


def test_a_finished_shard_is_not_done_again(audit, tmp_path):
    config, run = audit(), RunDirectory(tmp_path / "run")
    shard = shards_of(config)[0]
    worker = worker_of(config, run.path)
    worker.do(shard)
    [path] = run.file("shards").glob("*.parquet")
    before = path.stat().st_mtime_ns, path.read_bytes()
    assert worker.do(shard).images == 0
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before


def test_another_worker_gives_the_same_bytes(audit, tmp_path):
    config = audit()
    shard = shards_of(config)[0]
    files = []
    for name in ("one", "two"):
        run = RunDirectory(tmp_path / name)
        worker_of(config, run.path).do(shard)
        stored = (path for path in run.path.rglob("*") if path.is_file() and path.parent.name != "energy")
        files.append({path.name: path.read_bytes() for path in stored})
    assert files[0] == files[1]


def test_an_image_of_one_colour_is_a_failed_row_without_a_perceived_group(audit, tmp_path, monkeypatch):
    config, run = audit(), RunDirectory(tmp_path / "run")
    worker = worker_of(config, run.path)
    generate = worker._parts.generator.generate

    def with_one_grey(*arguments):
        images = generate(*arguments)
        images[1] = 128
        return images

    monkeypatch.setattr(worker._parts.generator, "generate", with_one_grey)
    receipt = worker.do(shards_of(config)[0])
    row = run.read_shard("doctor-0000").slice(1, 1).to_pylist()[0]
    assert receipt.statuses == {"classified": 3, "failed": 1}
    assert row["status"] == Status.FAILED
    assert [row[name] for name in ("p_gender_male", "p_age_old", "p_prompt_shown", FEATURES)] == [None] * 4


def test_workers_that_measure_differently_do_not_share_a_run(audit, tmp_path):
    run = RunDirectory(tmp_path / "run")
    worker_of(audit(), run.path)
    assert "judge:calibration" in run.read_json(INSTRUMENTS)["judge"]
    with pytest.raises(ValueError, match=r"the run was measured with .*begin another run"):
        worker_of(audit(judge={"min_confidence": 0.9}), run.path)


def test_how_images_were_sampled_is_kept_and_nothing_where_none_was(audit, tmp_path):
    worker_of(audit(model={}), tmp_path / "sampled")
    kept = RunDirectory(tmp_path / "sampled").read_json(SAMPLING)
    assert (kept["published_scheduler"], kept["steps"], kept["guidance"]) == ("DDIMScheduler", 25, 3.0)
    worker_of(audit(), tmp_path / "drawn")
    assert not RunDirectory(tmp_path / "drawn").has(SAMPLING)


CLIP = {"clip": str(bundle_of(ModelConfig()).clip)}


def test_a_further_judge_adds_columns_and_changes_none(audit, tmp_path):
    opinions = [{"name": "clip", "attributes": ["age"]}]
    tables = {}
    for name, second in (("alone", []), ("asked", opinions)):
        config, run = audit(quality=CLIP, second_opinions=second), RunDirectory(tmp_path / name)
        shard = shards_of(config)[0]
        worker_of(config, run.path).do(shard)
        tables[name] = run.read_shard(shard.id)
    alone, asked = tables["alone"], tables["asked"]
    added = [name for name in asked.column_names if name not in alone.column_names]
    assert added == ["by_clip_age_young", "by_clip_age_adult", "by_clip_age_old"]
    assert asked.drop_columns(added).equals(alone)
    np.testing.assert_allclose(sum(asked[name].to_numpy() for name in added), 1, atol=1e-5)


def test_zero_shot_judging_embeds_no_image_twice(audit, tmp_path, monkeypatch):
    embedded = []
    images = ClipEmbedder.images

    def counted(self, batch):
        embedded.append(len(batch))
        return images(self, batch)

    monkeypatch.setattr(ClipEmbedder, "images", counted)
    config, run = audit(quality=CLIP), RunDirectory(tmp_path / "run")
    worker_of(config, run.path).do(shards_of(config)[0])
    assert embedded == [4]
    assert "by_clip_gender_male" in run.read_shard("doctor-0000").column_names


def test_a_broken_image_and_an_unsure_judge_have_no_second_opinion(audit, tmp_path, monkeypatch):
    opinions = [{"name": "clip"}, {"name": "strict", "min_confidence": 1.0}]
    config, run = audit(quality=CLIP, second_opinions=opinions), RunDirectory(tmp_path / "run")
    worker = worker_of(config, run.path)
    generate = worker._parts.generator.generate

    def with_one_grey(*arguments):
        pictures = generate(*arguments)
        pictures[1] = 128
        return pictures

    monkeypatch.setattr(worker._parts.generator, "generate", with_one_grey)
    worker.do(shards_of(config)[0])
    table = run.read_shard("doctor-0000")
    assert [value is None for value in table["by_clip_gender_male"].to_pylist()] == [False, True, False, False]
    assert table["by_strict_skin_tone_tan"].null_count == 4


def test_a_run_names_its_further_judges(audit, tmp_path):
    run = RunDirectory(tmp_path / "run")
    worker_of(audit(quality=CLIP), run.path)
    assert run.read_json(INSTRUMENTS)["second_opinion clip"].startswith("judge:zero-shot|net:open_clip")
    with pytest.raises(ValueError, match=r"the run was measured with .*begin another run"):
        worker_of(audit(quality=CLIP, second_opinions=[]), run.path)
