"""An audit through a real endpoint on loopback ends with a report, whatever happens, and pays nothing twice."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from starlette.responses import JSONResponse

from audit.config.errors import ConfigErrors
from audit.config.file import read_config
from audit.preflight.readiness import check_ready, planned_work
from audit.results.comparison.compare import compare
from audit.storage.run_directory import AUDIT, RESULTS, RunDirectory
from ray_jobs.cli.comparison_table import comparison_lines
from ray_jobs.run.audit import default_run_id, run_audit
from tests.image_endpoint import REFUSAL, ImageEndpoint, error

ROOT = Path(__file__).parents[3]
KEY = "k-1c2d3e4f5a6b7c8d9e0f"
OCCUPATIONS, IMAGES = ["doctor", "nurse"], 12
TOTAL = len(OCCUPATIONS) * IMAGES


@pytest.fixture
def endpoint():
    with ImageEndpoint() as server:
        yield server


@pytest.fixture
def config_file(endpoint, tmp_path):
    """Write a config of a loopback endpoint; keyword arguments replace sections, ``limits`` those of the model."""

    def write(limits=None, **sections):
        limits = {"concurrency": 1, "timeout_seconds": 1.5, "price_per_image": 0.04, **(limits or {})}
        data = {
            "name": "hosted",
            "model": {
                "source": "api",
                "base_url": endpoint.url,
                "model": "painter",
                "api_key_env": "OWN_VARIABLE",
                "drawings": True,
                "limits": limits,
            },
            "prompts": {"occupations": OCCUPATIONS, "images_per_prompt": IMAGES},
            "sampling": {"batch": 6},
            "quality": {"clip": "none", "features": "none"},
            "gates": [{"name": "even", "measure": "fairness_discrepancy", "attribute": "gender", "max": 0.3}],
            "tracking": {"enabled": False},
            "workers": {"error_budget": 0.5},
            "output": str(tmp_path / "runs"),
        }
        path = tmp_path / "hosted.yaml"
        path.write_text(yaml.safe_dump(data | sections))
        return path

    return write


def command(*words, key=KEY):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OWN_VARIABLE": key, "OMP_NUM_THREADS": "1"}
    return {"args": [sys.executable, "-m", "ray_jobs", *map(str, words)], "env": environment, "text": True}


def test_a_run_that_is_killed_and_resumed_ends_with_a_report_and_pays_nothing_twice(endpoint, config_file, tmp_path):
    path = config_file()
    reached, release = threading.Event(), threading.Event()

    def hold(_body, number):
        """Never answer request 9, which the first attempt waits for when it is killed."""
        if number == 9:
            reached.set()
            release.wait(60)
            return error(503)
        return None

    endpoint.fault = hold
    patient = config_file({"timeout_seconds": 60})
    with subprocess.Popen(**command("run", patient), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as driver:
        assert reached.wait(120)
        processes = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        for process in processes:  # as when the machine is lost
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    psutil.wait_procs(processes, timeout=20)
    release.set()
    assert endpoint.paid.total() == 8

    faults = {  # by the number of the request
        11: lambda: error(429, **{"Retry-After": "0"}),
        13: lambda: error(500),
        15: lambda: threading.Event().wait(2.5) or error(503),
        17: lambda: JSONResponse(REFUSAL, 400),
        19: lambda: error(400, "moderation_blocked"),
    }
    endpoint.fault = lambda _body, number: faults[number]() if number in faults else None
    path = config_file()
    done = subprocess.run(**command("run", path), capture_output=True, check=False)
    assert done.returncode in (0, 1, 5), done.stdout + done.stderr
    [run] = (tmp_path / "runs").glob("hosted-*")
    assert (run / RESULTS).exists(), done.stdout + done.stderr
    assert endpoint.paid == {
        f"a face photo of a {name}": count for name, count in zip(OCCUPATIONS, (12, 10), strict=True)
    }
    statuses = [row["status"] for row in pq.read_table(run / RESULTS).to_pylist()]
    assert (len(statuses), statuses.count("failed")) == (TOTAL, 2)
    kept = [file for file in (run / "pictures").rglob("*") if file.is_file()]
    assert len(kept) == TOTAL - 2

    requests = json.loads((run / AUDIT).read_text())["provenance"]["requests"]
    assert requests["received"] == TOTAL - 2
    assert (requests["refused"], requests["failed"], requests["unanswered"]) == (2, 0, 2)  # the kill and the timeout
    assert requests["requests"] == endpoint.requests == TOTAL + 4
    assert requests["cost"] == pytest.approx({"least": 22 * 0.04, "most": 24 * 0.04})
    report = (run / "report.html").read_text(encoding="utf-8")
    for part in (
        f"Endpoint 127.0.0.1:{endpoint.port}/v1, model painter, 28 requests, 2 refused",
        "Which weights made them is unknown",
        "It refused 2 images, which count as failed",
        "Cost by model.limits.price_per_image: 0.88 to 0.96.",
        "2 requests had no answer and may have been charged.",
    ):
        assert part in report, part
    stored = b"".join(file.read_bytes() for file in (tmp_path / "runs").rglob("*") if file.is_file())
    assert KEY.encode() not in stored
    assert KEY not in done.stdout + done.stderr
    assert all(headers["authorization"] == f"Bearer {KEY}" for headers in endpoint.headers)


def test_a_wrong_key_ends_the_run_at_once_with_the_reason_and_without_the_key(endpoint, config_file, tmp_path):
    endpoint.fault = lambda _body, _number: error(401, "invalid_api_key", f"Incorrect API key provided: {KEY}")
    done = subprocess.run(**command("run", config_file()), capture_output=True, check=False)
    assert done.returncode in (3, 4)
    assert "refuses requests with 401: Incorrect API key provided: ***" in done.stdout + done.stderr
    assert endpoint.requests <= 4
    assert "Traceback" not in done.stdout + done.stderr
    stored = b"".join(file.read_bytes() for file in (tmp_path / "runs").rglob("*") if file.is_file())
    assert KEY.encode() not in stored
    assert KEY not in done.stdout + done.stderr


def test_a_raised_limit_resumes_the_same_run(endpoint, config_file, cluster, monkeypatch, tmp_path):
    monkeypatch.setenv("OWN_VARIABLE", KEY)
    config = read_config(config_file(), ["model.limits.max_requests=24", "model.api_key_env=null"], [check_ready])
    endpoint.fault = lambda _body, number: error(500) if number == 1 else None
    outcome = run_audit(config)
    assert not outcome.complete
    assert endpoint.requests == 24
    more = read_config(config_file({"max_requests": 40}), ["model.api_key_env=null"], [check_ready])
    assert default_run_id(more) == default_run_id(config)
    assert run_audit(more).complete
    assert (endpoint.requests, endpoint.paid.total()) == (25, TOTAL)


def test_the_plan_counts_requests_and_cost_and_limits_below_it_are_refused(config_file, monkeypatch):
    monkeypatch.setenv("OWN_VARIABLE", KEY)
    work = planned_work(read_config(config_file(), (), [check_ready]))
    assert (work.requests, work.cost, work.unet_calls) == (TOTAL, pytest.approx(0.96), 0)
    assert "24 requests, cost 0.96, retries not counted" in work.summary
    with pytest.raises(ConfigErrors) as caught:
        read_config(config_file({"max_requests": 23, "max_cost": 0.95}), (), [check_ready])
    said = str(caught.value)
    assert "expected at least the 24 requests of this plan, found 23" in said
    assert "expected at least the cost of the 24 images of this plan, 0.96, found 0.95" in said


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ({"base_url": "https://host/v1"}, "expected model (the name of the model there) for 'api'"),
        ({"model": "x"}, "expected base_url (the address of the endpoint) for 'api'"),
        ({"model": "x", "base_url": "host/v1"}, "expected an address such as https://api.openai.com/v1"),
        ({"model": "x", "base_url": "http://host/v1"}, "expected https, because the key would travel in clear text"),
        ({"model": "x", "base_url": "https://ann:pass@host/v1"}, "without user name, password and query"),
        ({"model": "x", "base_url": "https://host/v1/images/generations"}, "without /images/generations"),
        (
            {"model": "x", "base_url": "https://host/v1", "parameters": {"n": 4}},
            "found 'n', which has a key of its own",
        ),
        ({"model": "x", "base_url": "https://host/v1", "limits": {"max_cost": 1}}, "expected price_per_image"),
        ({"model": "x", "base_url": "https://host/v1", "folder": "y"}, "expected no folder beside source: api"),
        ({"model": "x", "base_url": "https://host/v1", "dtype": "float16"}, "which has no weights to load"),
        ({"model": "x", "base_url": "https://host/v1", "compile": True}, "which has no weights to load"),
    ],
)
def test_keys_of_an_endpoint_are_checked(audit, model, part):
    with pytest.raises(ValueError, match="validation error") as caught:
        audit(model={"source": "api", **model})
    assert part in str(caught.value)
    assert "pass@" not in str(caught.value).split("input_value")[0]


def test_what_needs_a_network_and_a_key_that_is_missing_are_refused_at_once(config_file, monkeypatch):
    monkeypatch.delenv("OWN_VARIABLE", raising=False)
    sections = {
        "lens": {"k": 8},
        "mitigations": [{"name": "edit", "method": "difflens", "attribute": "gender"}],
        "prompts": {"occupations": "all", "attribution": True},
        "sampling": {"guidance": 2.0},
    }
    with pytest.raises(ConfigErrors) as caught:
        read_config(config_file(**sections), (), [check_ready])
    said = str(caught.value)
    for part in (
        "lens.k: expected no lens for 'api', which has no network to observe or edit",
        "mitigations[0]: expected no mitigation for 'api'",
        "prompts.attribution: expected no attribution for 'api'",
        "sampling.guidance: expected no sampling.guidance for 'api'",
        "model.api_key_env: expected a key in the environment variable OWN_VARIABLE, found none",
        "prompts.occupations: expected a list of occupations for 'api'",
    ):
        assert part in said, said


def test_two_runs_of_an_endpoint_are_compared_as_two_samples_and_their_weights_are_unknown(
    endpoint, config_file, cluster, monkeypatch
):
    monkeypatch.setenv("OWN_VARIABLE", KEY)
    config = read_config(config_file({"concurrency": 4}), ["model.api_key_env=null"], [check_ready])
    first, second = (run_audit(config, run_id=name) for name in ("first", "second"))
    found = compare(RunDirectory(first.run_path), RunDirectory(second.run_path))
    assert found.cells
    assert not any(cell.paired for cell in found.cells)
    assert found.unknown_weights
    assert "Weights behind an endpoint are unknown." in "\n".join(comparison_lines(found))
    assert endpoint.paid.total() == 2 * TOTAL  # another run draws other pictures
