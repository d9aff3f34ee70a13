"""A small finished run of the rendered model, made once without a cluster, and copies of it."""

import shutil
from dataclasses import replace

import pytest

from audit.config.settings import AuditConfig
from audit.config.slices import FilesRequest, MeasurementRequest
from audit.evidence.adherence import with_adherence
from audit.evidence.samples import draw_samples
from audit.planning.plan import prompts_of_model
from audit.planning.targets import audit_targets
from audit.records.attributes import Attribute
from audit.storage.run_directory import RunDirectory
from ray_jobs.cli.evidence.register import planned_protocol
from ray_jobs.cluster.connection import Cluster
from ray_jobs.run.audit import open_run, plan, stored_config
from ray_jobs.run.summary import Comparison, summarise_run, with_provenance
from ray_jobs.run.worker import ShardWorker, WorkerSettings
from reports.export.files import write_exports
from reports.html import write_report

SMALL = {
    "name": "small",
    "seed": 3,
    "model": {"source": "rendered"},
    "prompts": {"occupations": ["doctor", "nurse"], "images_per_prompt": 12, "attribution": False},
    "sampling": {"batch": 6},
    "quality": {"clip": "none", "features": "none"},
    "tracking": {"enabled": False},
    "gates": [{"name": "half", "measure": "share:female", "attribute": "gender", "prompt": "nurse", "min": 0.1}],
}


def config_of(**sections) -> AuditConfig:
    """The small audit, with other sections."""
    return AuditConfig(**{**SMALL, **sections})


def make(config: AuditConfig, directory, name: str = "small-0a1b2c3d") -> RunDirectory:
    """Run an audit in this process."""
    config = config.model_copy(update={"output": str(directory)})
    run = open_run(config, name, Cluster(1, 0, local=True))
    request = MeasurementRequest.of(config)
    shards, images = plan(config), dict.fromkeys(config.prompts.occupations, config.prompts.images_per_prompt)
    samples = draw_samples(run, images, config.report.random_samples)
    worker = ShardWorker(WorkerSettings(request, config.report, str(run.path), None, ".", samples=samples))
    for shard in shards:
        worker.do(shard)
    finish(config, run)
    return run


def finish(config: AuditConfig, run: RunDirectory) -> None:
    """Summarise the shards and write every file of the run."""
    request = MeasurementRequest.of(config)
    attributes = [Attribute(name, groups) for name, groups in config.attributes.items()]
    prompts = [prompt.id for prompt in prompts_of_model(config.model, config.prompts)]
    compared = Comparison(audit_targets(config.targets, prompts, attributes), config.gates)
    result = with_provenance(summarise_run(request, plan(config), run, compared), run, ())
    write_exports(run, with_adherence(run, result))
    write_report(run.path)


@pytest.fixture(scope="session")
def made_run(tmp_path_factory):
    return make(config_of(), tmp_path_factory.mktemp("runs"))


@pytest.fixture
def make_run(made_run, tmp_path):
    """Copies the finished run, so that a test can change it."""

    def copy(name="copied") -> RunDirectory:
        target = tmp_path / name / made_run.path.name
        shutil.copytree(made_run.path, target)
        return RunDirectory(target)

    return copy


def protocol_of(config: AuditConfig, **fields):
    """The protocol of a config, registered now, or with other fields."""
    registered = planned_protocol(
        stored_config(config), MeasurementRequest.of(config), FilesRequest.of(config), config.gates
    )
    return replace(registered, **fields)


@pytest.fixture(scope="session")
def small_config():
    """Builds the small audit; keyword arguments replace sections."""
    return config_of


@pytest.fixture(scope="session")
def protocol_for():
    """Registers a config; keyword arguments replace fields of the protocol."""
    return protocol_of


@pytest.fixture(scope="session")
def finish_run():
    """Judges the shards of a run again and writes its files."""
    return finish


@pytest.fixture(scope="session")
def make_small_run():
    """Runs an audit in this process: config, output directory, name."""
    return make
