"""Audits of several models in turn, without a cluster: one that fails, or shows nothing, does not stop the others."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import yaml

from audit.config.models.read import read_audits
from audit.models.files.untrusted_model import UnfitModelError
from audit.results.comparison.compare import NothingToCompareError
from audit.results.models.compare import read_models
from audit.storage.run_directory import RunDirectory
from ray_jobs.pool.actor_pool import RefusedError
from ray_jobs.run.models import audits as module
from tests.model_runs import rows_of, write_run

WORLD = "audit/calibration/worlds/altered.yaml"


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Return a function that runs three models, each with its rows or its error, and the names of those that began."""
    models = {"first": {"source": "rendered"}, "second": {"source": "calibration"}}
    models["third"] = {"source": "rendered", "world": WORLD}
    plain = {"name": "trial", "models": models, "tracking": {"enabled": False}, "output": str(tmp_path / "runs")}
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    monkeypatch.setattr(module, "connect", lambda *_: nullcontext())

    def run(*outcomes):
        asked, begun, waiting = read_audits(path), [], iter(outcomes)

        def audited(config, **_):
            begun.append(config.name)
            outcome = next(waiting)
            if isinstance(outcome, Exception):
                raise outcome
            return SimpleNamespace(run_path=write_run(tmp_path / "runs" / config.name, outcome).path, complete=True)

        monkeypatch.setattr(module, "run_audit", audited)
        try:
            return module.run_models(asked), begun
        except Exception as error:  # noqa: BLE001 - each test compares it
            return error, begun

    return run


def stored(tmp_path):
    [place] = (tmp_path / "runs" / "models").iterdir()
    return read_models(RunDirectory(place))


def unclassified(noise):
    return [row | {"status": "low_confidence"} for row in rows_of(images=8, noise=noise)]


@pytest.mark.parametrize("error", [UnfitModelError("no such block"), RefusedError("no such block")])
def test_a_model_that_does_not_fit_is_named_and_the_others_are_compared(started, tmp_path, error):
    found, begun = started(error, rows_of(images=8, noise=1), rows_of(images=8, noise=2))
    assert found is error
    assert begun == ["trial-first", "trial-second", "trial-third"]
    assert stored(tmp_path).waiting == ("first",)


def test_a_model_without_a_classified_image_does_not_stop_the_others(started, tmp_path):
    found, begun = started(unclassified(1), rows_of(images=8, noise=2), rows_of(images=8, noise=3))
    assert begun == ["trial-first", "trial-second", "trial-third"]
    assert [model.name for model in found.comparison.models] == ["first", "second", "third"]
    assert {(d.first, d.second) for d in found.comparison.differences} == {("second", "third")}
    assert any("of first" in line for line in found.comparison.missing)


def test_models_that_have_nothing_in_common_are_refused_after_the_last(started):
    found, begun = started(*map(unclassified, range(3)))
    assert isinstance(found, NothingToCompareError)
    assert len(begun) == 3
