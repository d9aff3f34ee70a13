"""Kubernetes and KubeRay objects that run a scheduled audit, as plain data.

What every kind has in common: the config lies in a ConfigMap, the pod does one slot with ``difflens-audit schedule
once``, and a gate that fails is a result, not a crash: the command then ends with 0, and the verdict is in the
report, in MLflow and in the alerts. A pod that its node threw out is started again and goes on in the same run
directory; anything else that fails is not tried again before the next slot, since a crash repeats itself at the price
of the GPUs.
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
"""Kubernetes allows a CronJob 52 characters; KubeRay adds about twenty of its own to 63."""

RAYCRONJOB_IS_ALPHA = (
    "RayCronJob is alpha in KubeRay 1.6 and 1.7 and off by default: the operator needs the feature gate RayCronJob. It "
    "has no concurrencyPolicy and no startingDeadlineSeconds; overlap is refused by the lease in the output directory."
)


class ManifestError(ValueError):
    """The config cannot be put into these objects."""


@dataclass(frozen=True)
class Size:
    """What the pods that compute ask for.

    Attributes:
        cpus: Of each pod.
        memory: Of each pod, as Kubernetes writes it.
        gpus: Of each pod; None for one GPU, or none where the model is drawn here.
        workers: Ray worker pods; None for as many as the config's ``workers.count``, or one.
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
    """Everything that the objects say.

    Attributes:
        audit: The audit.
        text: Its YAML file.
        cron: When.
        time_zone: Where the clock hangs, by its IANA name.
        image: Container image with difflens-audit[schedule].
        claim: PersistentVolumeClaim for the run directories, shared by all pods.
        size: What the pods ask for.
        begin_within: Seconds after the slot within which an audit may begin.
        end_within: Seconds after which it is ended.
        keep_for: Seconds that a finished job stays to be looked at.
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
        """Refuse a config that does not fit a ConfigMap.

        Raises:
            ManifestError: If it is too large.
        """
        if len(self.text.encode()) > 1_000_000:
            raise ManifestError("expected a config of at most 1 MB, what a ConfigMap holds, found a larger one")

    @property
    def name(self) -> str:
        """The audit's name as Kubernetes allows it (RFC 1123)."""
        name = re.sub(r"[^a-z0-9]+", "-", self.audit.name.lower()).strip("-")
        return f"difflens-{name}"[:MOST_NAME].rstrip("-")

    @property
    def command(self) -> list[str]:
        """Return what the pod runs."""
        return [
            "difflens-audit", "schedule", "once", f"{CONFIG_DIRECTORY}/{CONFIG_FILE}",
            "--cron", self.cron.text, "--time-zone", self.time_zone,
            "--output", self.output, "--gate-exit-code", "0",
        ]  # fmt: skip

    @property
    def on_claim(self) -> bool:
        """Whether the run directories lie on the claim, and not in an object store that the config names."""
        return isinstance(place_of(self.audit.output), Path)

    @property
    def output(self) -> str:
        """Where the pods keep the run directories."""
        return OUTPUT_DIRECTORY if self.on_claim else self.audit.output

    @property
    def gpu_count(self) -> int:
        """GPUs of the pod that computes."""
        if self.size.gpus is not None:
            return self.size.gpus
        return 0 if self.audit.model.source in GENERATED_HERE else 1

    @property
    def worker_count(self) -> int:
        """Ray worker pods."""
        if self.size.workers is not None:
            return self.size.workers
        return self.audit.workers.count if isinstance(self.audit.workers.count, int) else 1


def cronjob(deployment: Deployment) -> tuple[Manifest, ...]:
    """Return a ConfigMap and a CronJob whose pod does the whole audit."""
    job = {
        "backoffLimit": 0,
        "podFailurePolicy": {
            # thrown out by its node, the pod is replaced without counting as a failure
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
    """Return a ConfigMap and a RayJob, which does the slot that is due when it is applied."""
    return config_map(deployment), _object("ray.io/v1", "RayJob", deployment, _ray_job_spec(deployment))


def raycronjob(deployment: Deployment) -> tuple[Manifest, ...]:
    """Return a ConfigMap and a RayCronJob, which makes a RayJob at every slot."""
    spec = {
        "schedule": deployment.cron.text,
        "timeZone": deployment.time_zone,
        "jobTemplate": _ray_job_spec(deployment),
    }
    note = {"difflens-audit/note": RAYCRONJOB_IS_ALPHA}
    return config_map(deployment), _object("ray.io/v1", "RayCronJob", deployment, spec, note)


def config_map(deployment: Deployment) -> Manifest:
    """Return the ConfigMap that holds the audit's YAML, as it is in the file."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{deployment.name}-config", "labels": _labels(deployment)},
        "data": {CONFIG_FILE: deployment.text},
    }


def to_yaml(manifests: tuple[Manifest, ...]) -> str:
    """Return objects as one YAML text; a text of several lines stays readable."""
    return yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and every object in full, without anchors."""

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
        "backoffLimit": 0,  # each retry would build a new cluster
        "activeDeadlineSeconds": deployment.end_within,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "rayClusterSpec": {
            "rayVersion": metadata.version("ray"),
            "authOptions": {"mode": "token"},
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},  # the driver alone; images are made by the workers
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
