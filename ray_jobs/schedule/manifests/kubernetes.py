"""Kubernetes and KubeRay objects that run a scheduled audit, as plain data.

In every kind, a ConfigMap holds the config and the pod runs one slot with ``difflens-audit schedule once``. A failed
gate is a result and not a crash: the command exits with 0, and report, MLflow and alerts show the verdict. An evicted
pod is restarted and resumes the same run directory. Any other failure waits for the next slot, since a crash would
probably repeat and waste GPU time.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from audit.config.fields import GENERATED_HERE
from audit.config.sections import ModelConfig, WorkersConfig
from audit.storage.place import place_of
from ray_jobs.schedule.cron import Cron

Manifest = dict[str, Any]

CONFIG_DIRECTORY = "/etc/difflens-audit"
CONFIG_FILE = "audit.yaml"
OUTPUT_DIRECTORY = "/runs"

MOST_NAME = 40
"""Kubernetes limits the name of a CronJob to 52 characters; KubeRay appends about twenty, up to 63."""

RAYCRONJOB_IS_ALPHA = (
    "RayCronJob is alpha in KubeRay 1.6 and 1.7 and disabled by default: enable the operator's feature gate "
    "RayCronJob. It has no concurrencyPolicy and no startingDeadlineSeconds; the lease in the output directory "
    "prevents overlap."
)


class ManifestError(ValueError):
    """The config does not fit into these objects."""


@dataclass(frozen=True)
class Size:
    """Resources of the computing pods.

    Attributes:
        cpus: CPUs of each pod.
        memory: Memory of each pod, in Kubernetes notation.
        gpus: GPUs of each pod; None for one GPU, or for none if the model is rendered.
        workers: Number of Ray worker pods; None for the config's ``workers.count``, or one.
    """

    cpus: int = 4
    memory: str = "16Gi"
    gpus: int | None = None
    workers: int | None = None


@dataclass(frozen=True)
class ScheduledAudit:
    """What manifests and units say about an audit.

    Attributes:
        name: Its name.
        output: Path or address of the directory of its runs.
        model: Its model.
        workers: Its workers.
    """

    name: str
    output: str
    model: ModelConfig
    workers: WorkersConfig


@dataclass(frozen=True)
class Deployment:
    """Parameters of all objects.

    Attributes:
        audit: The audit.
        text: Its YAML file.
        cron: Due times.
        time_zone: IANA name of the time zone of the cron expression.
        image: Container image with difflens-audit[schedule].
        claim: PersistentVolumeClaim for the run directories, shared by all pods.
        size: Resources of the pods.
        begin_within: Longest delay of an audit in seconds.
        end_within: Time limit of an audit in seconds.
        keep_for: Seconds that a finished job is kept for inspection.
    """

    audit: ScheduledAudit
    text: str
    cron: Cron
    time_zone: str
    image: str
    claim: str = "difflens-audit-runs"
    size: Size = Size()
    begin_within: int = 3600
    end_within: int = 86_400
    keep_for: int = 604_800

    def __post_init__(self) -> None:
        """Check that the config fits into a ConfigMap.

        Raises:
            ManifestError: If it is too large.
        """
        if len(self.text.encode()) > 1_000_000:
            raise ManifestError("expected a config of at most 1 MB, the limit of a ConfigMap, found a larger one")

    @property
    def name(self) -> str:
        """The audit's name in a form that Kubernetes allows (RFC 1123)."""
        name = re.sub(r"[^a-z0-9]+", "-", self.audit.name.lower()).strip("-")
        return f"difflens-{name}"[:MOST_NAME].rstrip("-")

    @property
    def command(self) -> list[str]:
        """Return the command of the pod."""
        return [
            "difflens-audit", "schedule", "once", f"{CONFIG_DIRECTORY}/{CONFIG_FILE}",
            "--cron", self.cron.text, "--time-zone", self.time_zone,
            "--output", self.output, "--gate-exit-code", "0",
        ]  # fmt: skip

    @property
    def on_claim(self) -> bool:
        """Whether the run directories are on the claim, not in an object store."""
        return isinstance(place_of(self.audit.output), Path)

    @property
    def output(self) -> str:
        """The directory of the runs inside the pods."""
        return OUTPUT_DIRECTORY if self.on_claim else self.audit.output

    @property
    def gpu_count(self) -> int:
        """GPUs of the computing pod."""
        if self.size.gpus is not None:
            return self.size.gpus
        return 0 if self.audit.model.source in GENERATED_HERE else 1

    @property
    def worker_count(self) -> int:
        """Number of Ray worker pods."""
        if self.size.workers is not None:
            return self.size.workers
        return self.audit.workers.count if isinstance(self.audit.workers.count, int) else 1


def cronjob(deployment: Deployment) -> tuple[Manifest, ...]:
    """Return a ConfigMap and a CronJob whose pod runs the whole audit."""
    job = {
        "backoffLimit": 0,
        "podFailurePolicy": {
            # an evicted pod is replaced and does not count as a failure
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "activeDeadlineSeconds": deployment.end_within,
        "ttlSecondsAfterFinished": deployment.keep_for,
        "template": {
            "metadata": {"labels": _labels(deployment)},
            "spec": {**_pod(deployment, _computes(deployment, deployment.command)), "restartPolicy": "Never"},
        },
    }
    spec = {
        "schedule": deployment.cron.text,
        "timeZone": deployment.time_zone,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": deployment.begin_within,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 5,
        "jobTemplate": {"spec": job},
    }
    return config_map(deployment), _object("batch/v1", "CronJob", deployment, spec)


def rayjob(deployment: Deployment) -> tuple[Manifest, ...]:
    """Return a ConfigMap and a RayJob, which runs the slot that is due when it is applied."""
    return config_map(deployment), _object("ray.io/v1", "RayJob", deployment, _ray_job_spec(deployment))


def raycronjob(deployment: Deployment) -> tuple[Manifest, ...]:
    """Return a ConfigMap and a RayCronJob, which creates a RayJob at every slot."""
    spec = {
        "schedule": deployment.cron.text,
        "timeZone": deployment.time_zone,
        "jobTemplate": _ray_job_spec(deployment),
    }
    note = {"difflens-audit/note": RAYCRONJOB_IS_ALPHA}
    return config_map(deployment), _object("ray.io/v1", "RayCronJob", deployment, spec, note)


def config_map(deployment: Deployment) -> Manifest:
    """Return the ConfigMap with the unchanged YAML of the audit."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{deployment.name}-config", "labels": _labels(deployment)},
        "data": {CONFIG_FILE: deployment.text},
    }


def to_yaml(manifests: tuple[Manifest, ...]) -> str:
    """Return objects as one YAML text; a text of several lines is a readable block."""
    return yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes multi-line texts as blocks, and every object in full, without anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _ray_job_spec(deployment: Deployment) -> Manifest:
    template = {"metadata": {"labels": _labels(deployment)}}
    driver = _container("ray-head", deployment, cpus=2, memory="8Gi", gpus=0)
    worker = _computes(deployment, None, name="ray-worker")
    return {
        "entrypoint": shlex.join(deployment.command),
        "backoffLimit": 0,  # each retry would create a new cluster
        "activeDeadlineSeconds": deployment.end_within,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "rayClusterSpec": {
            "rayVersion": metadata.version("ray"),
            "authOptions": {"mode": "token"},
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},  # only the driver runs here; workers make the images
                "template": {**template, "spec": _pod(deployment, driver)},
            },
            "workerGroupSpecs": [
                {
                    "groupName": "workers",
                    "replicas": deployment.worker_count,
                    "minReplicas": deployment.worker_count,
                    "maxReplicas": deployment.worker_count,
                    "rayStartParams": {},
                    "template": {**template, "spec": _pod(deployment, worker)},
                }
            ],
        },
    }


def _object(
    version: str, kind: str, deployment: Deployment, spec: Manifest, annotations: dict[str, str] | None = None
) -> Manifest:
    about: Manifest = {"name": deployment.name, "labels": _labels(deployment)}
    if annotations:
        about["annotations"] = annotations
    return {"apiVersion": version, "kind": kind, "metadata": about, "spec": spec}


def _labels(deployment: Deployment) -> dict[str, str]:
    return {"app.kubernetes.io/name": "difflens-audit", "app.kubernetes.io/instance": deployment.name}


def _computes(deployment: Deployment, command: list[str] | None, name: str = "audit") -> Manifest:
    """Return the container that makes the images."""
    size = deployment.size
    container = _container(name, deployment, cpus=size.cpus, memory=size.memory, gpus=deployment.gpu_count)
    return container if command is None else {**container, "command": command}


def _container(name: str, deployment: Deployment, *, cpus: int, memory: str, gpus: int) -> Manifest:
    asked: dict[str, Any] = {"cpu": str(cpus), "memory": memory}
    gpu = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    return {
        "name": name,
        "image": deployment.image,
        "resources": {"requests": asked | gpu, "limits": {"memory": memory} | gpu},
        # tokens and the webhook's secret: kubectl create secret generic <name>-env --from-literal=NAME=…
        "envFrom": [{"secretRef": {"name": f"{deployment.name}-env", "optional": True}}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": True},
            *([{"name": "runs", "mountPath": OUTPUT_DIRECTORY}] if deployment.on_claim else []),
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 - of the pod itself
        ],
    }


def _pod(deployment: Deployment, container: Manifest) -> Manifest:
    claim = {"claimName": deployment.claim}
    return {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": f"{deployment.name}-config"}},
            *([{"name": "runs", "persistentVolumeClaim": claim}] if deployment.on_claim else []),
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},  # Ray's object store
        ],
    }
