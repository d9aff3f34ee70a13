"""The dashboard asks for metrics that exist, by names and labels that Ray exports them with."""

import json
import re
from pathlib import Path

import pytest
from ray.util.metrics import Counter, Gauge, Histogram

from ray_jobs.run.progress import metrics
from ray_jobs.run.progress.metrics import DriverMetrics, WorkerMetrics

DASHBOARD = Path(__file__).parents[4] / "docs" / "grafana.json"
SUFFIXES = {Counter: ("_total",), Gauge: ("",), Histogram: ("_bucket", "_sum", "_count")}
"""What Prometheus adds to a name, by the kind of metric; Ray puts ``ray_`` before it."""


def registered():
    found = [*vars(WorkerMetrics()).values(), *vars(DriverMetrics()).values()]
    return {metric.info["name"]: metric for metric in found}


def exported():
    """Return exported name → labels."""
    return {
        f"ray_{name}{suffix}": {*metric.info["tag_keys"], *({"le"} if suffix == "_bucket" else ())}
        for name, metric in registered().items()
        for suffix in SUFFIXES[type(metric)]
    }


def queries():
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("query", queries())
def test_a_query_names_only_metrics_and_labels_that_are_exported(query):
    names = set(re.findall(r"\bray_\w+", query))
    assert names
    assert names <= exported().keys()
    labels = {label for group in re.findall(r"\b(?:by|ignoring) \((.*?)\)", query) for label in group.split(", ")}
    labels |= set(re.findall(r"[{,](\w+)!?=", query))
    assert labels <= set.union(*(exported()[name] for name in names))


def test_the_dashboard_shows_every_metric():
    shown = " ".join(queries())
    assert all(f"ray_{name}" in shown for name in registered())


def test_the_documentation_lists_what_is_exported_with_its_labels():
    text = (DASHBOARD.parent / "how-to" / "cluster.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(ray_difflens_\w+)` \| (.*?) \|", text, flags=re.M))
    assert len(listed) == len(registered())
    for name, labels in listed.items():
        full = name if name in exported() else f"{name}_sum"
        assert set(re.findall(r"`(\w+)`", labels)) == exported()[full]


def test_panels_do_not_overlap_and_legends_name_labels_of_their_query():
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels) == len({panel["id"] for panel in panels})
    for target in (target for panel in panels for target in panel["targets"]):
        assert all(label in target["expr"] for label in re.findall(r"{{(\w+)}}", target["legendFormat"]))


def test_a_worker_counts_images_by_arm_and_status_and_the_time_it_waited(monkeypatch):
    seen = []
    for kind, method in ((Counter, "inc"), (Histogram, "observe")):
        monkeypatch.setattr(kind, method, lambda self, value, tags=None: seen.append((self.info["name"], value, tags)))
    worker = WorkerMetrics()
    worker.begun(idle_seconds=2.0)
    worker.finished(0.4, {("baseline", "classified"): 3, ("baseline", "failed"): 1})
    assert seen == [
        (metrics.IDLE_SECONDS, 2.0, None),
        (metrics.SHARD_SECONDS, 0.4, None),
        (metrics.IMAGES, 3, {"arm": "baseline", "status": "classified"}),
        (metrics.IMAGES, 1, {"arm": "baseline", "status": "failed"}),
    ]


def test_no_waiting_at_all_is_no_error():
    WorkerMetrics().begun(idle_seconds=0.0)
