"""Reference images become features in the order of their names, whatever their size and whoever embeds them."""

import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image

from audit.config.sections import QualityConfig
from ray_jobs.cli.failures import code_of
from ray_jobs.pool.actor_pool import PoolError
from ray_jobs.pool.limits import PoolLimits
from ray_jobs.run import parts
from ray_jobs.run.exit_codes import ExitCode
from ray_jobs.run.parts import PreparationError, WorkerPool
from ray_jobs.run.prepare import reference
from ray_jobs.run.prepare.reference import ReferenceSettings, ReferenceWorker, reference_features, reference_parts


def worker_of(config):
    return ReferenceWorker(ReferenceSettings(config.quality, config.model))


def features_of(config, cluster):
    return reference_features(config.quality, config.model, WorkerPool(config.workers, cluster))


@pytest.fixture
def pictures(tmp_path):
    directory = tmp_path / "pictures"
    rng = np.random.default_rng(0)
    for number in range(5):
        path = directory / f"part-{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    (directory / "notes.txt").write_text("no picture")
    return directory


def test_the_workers_give_the_features_that_one_worker_would(audit, cluster, pictures, monkeypatch):
    config = audit(quality=QualityConfig(clip="none", reference=str(pictures)).model_dump())
    [whole] = reference_parts(pictures)
    expected = worker_of(config).do(whole)
    monkeypatch.setattr(reference, "FILES_PER_PART", 2)
    np.testing.assert_array_equal(features_of(config, cluster), expected)
    assert expected.shape == (5, 64)


def test_relative_paths_mean_the_same_to_the_workers(audit, cluster, pictures, untrained_world, tmp_path, monkeypatch):
    quality = QualityConfig(clip="none", reference=str(pictures)).model_dump()
    expected = features_of(audit(quality=quality), cluster)
    shutil.copytree(untrained_world, tmp_path / "world")
    monkeypatch.chdir(tmp_path)
    relative = audit(quality=quality | {"reference": "pictures"}, model={"source": "rendered", "world": "world"})
    np.testing.assert_array_equal(features_of(relative, cluster), expected)


def test_a_cluster_without_room_is_told_what_a_worker_asks_for(audit, cluster, pictures, monkeypatch):
    monkeypatch.setattr(parts, "PoolLimits", partial(PoolLimits, start_seconds=1))
    quality = QualityConfig(clip="none", reference=str(pictures)).model_dump()
    config = audit(quality=quality, workers={"count": 1, "threads": 256})
    with pytest.raises(PoolError, match=f"one requests 256 CPU, the cluster has {cluster.cpus:g} CPU"):
        features_of(config, cluster)


def test_a_config_without_reference_asks_for_nothing(audit, cluster):
    assert features_of(audit(), cluster) is None


def test_fewer_than_two_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected at least 2 images .*found 0"):
        reference_parts(tmp_path)


def test_the_features_are_those_of_plain_copies(audit, pictures, tmp_path):
    """Depth, rotation, transparency and hidden copies change nothing about what is measured."""
    plain, stored = tmp_path / "plain", tmp_path / "stored"
    for directory in (plain, stored / ".thumbnails"):
        directory.mkdir(parents=True)
    for number, path in enumerate(sorted(pictures.rglob("*.png"))):
        grey = np.array(Image.open(path).convert("L"))
        Image.fromarray(grey).convert("RGB").save(plain / f"{number}.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        rotated = Image.fromarray(np.rot90(grey).copy())
        if number % 2:
            Image.fromarray(grey.astype(np.uint16) * 257).save(stored / f"{number}.png")
        else:
            rotated.save(stored / f"{number}.png", exif=exif)
        rotated.save(stored / ".thumbnails" / f"{number}.png")
    config = audit(quality=QualityConfig(clip="none", reference=str(stored)).model_dump())
    worker = worker_of(config)
    expected, found = (worker.do(reference_parts(directory)[0]) for directory in (plain, stored))
    np.testing.assert_array_equal(found, expected)


def test_a_broken_image_is_named(audit, cluster, pictures):
    (pictures / "broken.png").write_bytes(b"no picture")
    config = audit(quality=QualityConfig(clip="none", reference=str(pictures)).model_dump())
    with pytest.raises(PreparationError, match=r"reference images cannot be used: .*broken\.png") as refused:
        features_of(config, cluster)
    assert code_of(refused.value) == ExitCode.USAGE
