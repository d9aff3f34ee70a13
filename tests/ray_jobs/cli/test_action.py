"""The GitHub action: its steps, run by a shell as GitHub runs them, pass and fail a job with the audit's gates."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
SETS = (
    'model={"source": "rendered"}',
    "prompts.occupations=[doctor]",
    "prompts.images_per_prompt=40",
    'quality={"clip": "none", "features": "none"}',
    "workers.count=1",
)
FACES = '[{"name": "faces", "measure": "unclassified_share", "max": 0.9}]'
BALANCED = (
    '[{"name": "balanced", "measure": "fairness_discrepancy", "attribute": "gender", "prompt": "each", "max": 0.0001}]'
)


class Job:
    """A job whose only step uses the action; steps without ``run`` are other actions, and are left out."""

    def __init__(self, folder, **inputs):
        self.inputs = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()} | inputs
        self.files = {name: folder / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        self.temp = folder / "temp"
        self.temp.mkdir()
        for file in self.files.values():
            file.touch()
        self.log, self.code, self.ran = "", 0, []

    @property
    def outputs(self):
        return dict(line.split("=", 1) for line in self.files["GITHUB_OUTPUT"].read_text().splitlines())

    def value(self, expression):
        kind, _, name = expression.strip().partition(".")
        if kind == "inputs":
            return self.inputs[name]
        if kind == "steps":
            return self.outputs.get(name.removeprefix("audit.outputs."), "")
        return {"github.action_path": str(ROOT), "runner.temp": str(self.temp)}[expression.strip()]

    def filled(self, text):
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: self.value(found[1]), text)

    def due(self, step):
        """``a == 'x' && b != ''`` is all that the action needs of GitHub's expressions."""
        for part in filter(None, step.get("if", "").split(" && ")):
            name, sign, text = re.fullmatch(r"(\S+) (==|!=) '(.*)'", part).groups()
            if (self.value(name) == text) != (sign == "=="):
                return False
        return True

    def run(self):
        for step in ACTION["runs"]["steps"]:
            if "run" not in step or not self.due(step):
                continue
            self.ran.append(step["name"])
            env = os.environ | {name: str(file) for name, file in self.files.items()} | {"RUNNER_TEMP": str(self.temp)}
            env |= {name: self.filled(text) for name, text in step.get("env", {}).items()}
            env["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), env["PATH"]))
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
            done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
            self.log += done.stdout + done.stderr
            if done.returncode:
                self.code = done.returncode
                return self
        return self


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Return a maker of jobs that audit the same images, made by the first one, under gates of their own."""
    runs = tmp_path_factory.mktemp("audits") / "runs"

    def run(gates, *more):
        sets = "\n".join((*SETS, f"gates={gates}", f"output={runs}", *more))
        return Job(tmp_path_factory.mktemp("job"), config="configs/smoke.yaml", set=sets, install="false").run()

    return run


def test_gates_that_pass_pass_the_job_and_leave_a_bundle(job):
    done = job(FACES)
    assert done.code == 0, done.log
    assert done.ran == ["Audit", "Summary", "Bundle", "Verdict"]
    assert done.outputs["verdict"] == "pass"
    assert Path(done.outputs["run"], "report.html").is_file()
    assert "faces" in done.files["GITHUB_STEP_SUMMARY"].read_text()
    artifact = done.temp / "difflens-audit"
    assert sorted(file.name for file in artifact.iterdir()) == ["evidence.zip", "junit.xml", "summary.md"]
    assert zipfile.ZipFile(artifact / "evidence.zip").testzip() is None


def test_a_gate_that_fails_fails_the_job_after_the_bundle(job):
    done = job(BALANCED)
    assert (done.code, done.outputs["exit-code"], done.outputs["verdict"]) == (1, "1", "fail"), done.log
    assert (done.temp / "difflens-audit" / "evidence.zip").is_file()


@pytest.mark.parametrize(
    ("found", "accept", "code"), [("5", "false", 5), ("5", "true", 0), ("1", "true", 1), ("3", "true", 3), ("0", "", 0)]
)
def test_an_inconclusive_audit_passes_only_where_that_is_accepted(found, accept, code):
    [verdict] = (step["run"] for step in ACTION["runs"]["steps"] if step.get("name") == "Verdict")
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", verdict]
    assert subprocess.run(command, env=os.environ | {"CODE": found, "ACCEPT": accept}, check=False).returncode == code


@pytest.mark.parametrize(
    ("printed", "outputs"),
    [
        ('{"runs": {"a": {}}, "page": "models.html"}', ["exit-code=1", "run=", "verdict="]),
        ('{"run_path": "runs/a", "verdict": null}', ["exit-code=1", "run=runs/a", "verdict="]),
        ("", ["exit-code=1"]),
    ],
)
def test_the_outputs_of_an_audit_with_several_models_are_empty(tmp_path, printed, outputs):
    program = tmp_path / "difflens-audit"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{printed}'\nexit 1\n")
    program.chmod(0o755)
    [audit] = (step["run"] for step in ACTION["runs"]["steps"] if step.get("name") == "Audit")
    path = os.pathsep.join((str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]))
    env = os.environ | {"PATH": path, "RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(tmp_path / "out")}
    env |= {"CONFIG": "models.yaml", "SET": "", "PROTOCOL": ""}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", audit]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out").read_text().splitlines() == outputs


def test_a_mistake_in_the_config_ends_the_job_with_its_message_and_without_a_bundle(job):
    done = job(FACES, "sampling.stepz=3")
    assert done.code == 2
    assert "stepz" in done.log
    assert "Traceback" not in done.log
    assert done.ran == ["Audit", "Verdict"]


def test_only_expressions_that_a_shell_cannot_misread_are_in_commands():
    # An input that is written into a command could run anything; as a variable it is only text.
    assert not any("${{" in step.get("run", "") for step in ACTION["runs"]["steps"])


def test_every_output_and_input_is_described_and_used():
    text = (ROOT / "action.yml").read_text()
    for name, one in ACTION["inputs"].items():
        assert one["description"]
        assert f"inputs.{name}" in text
    for one in ACTION["outputs"].values():
        assert one["description"]


def test_the_container_image_copies_what_the_package_is_built_from():
    lines = (ROOT / "Containerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name for name in packages if not name.endswith(".*")} <= copied
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= copied
    [entry] = (line for line in lines if line.startswith("ENTRYPOINT"))
    assert all(f'"{name}"' in entry for name in project["project"]["scripts"])
