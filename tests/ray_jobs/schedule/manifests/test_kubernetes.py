"""Tests the rendered objects: accepted by the Kubernetes and KubeRay APIs, with the settings of the schedule."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from audit.config.settings import AuditConfig
from ray_jobs.cli.commands import app
from ray_jobs.schedule.cron import Cron
from ray_jobs.schedule.manifests.files import KINDS, kubernetes_files, systemd_files
from ray_jobs.schedule.manifests.kubernetes import CONFIG_FILE, Deployment, ManifestError, ScheduledAudit, Size, to_yaml
from ray_jobs.schedule.manifests.systemd import UnitError, Units, to_unit

TEXT = "# weekly\nname: Weekly_Audit.1\nmodel:\n  source: rendered\n"
KUBERAY = Path(__file__).parents[2] / "data" / "kuberay.yaml"
KUBERNETES = "1.30"


def scheduled(config):
    return ScheduledAudit(config.name, config.output, config.model, config.workers)


def deployment(text=TEXT, **settings):
    config = AuditConfig.model_validate(yaml.safe_load(text))
    return Deployment(
        scheduled(config), text, Cron.parse("0 3 * * 1"), "Europe/Berlin", "example.com/audit:1", **settings
    )


def rendered(kind, **settings):
    """Every object of a kind, as read back from the file."""
    [text] = kubernetes_files(deployment(**settings), kind).values()
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text)}


def pods(kind):
    """The pod specs of a kind, by purpose."""
    objects = rendered(kind, size=Size(gpus=1, workers=3))
    if kind == "cronjob":
        return {"audit": objects["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]}
    job = objects["RayJob"]["spec"] if kind == "rayjob" else objects["RayCronJob"]["spec"]["jobTemplate"]
    cluster = job["rayClusterSpec"]
    return {
        "head": cluster["headGroupSpec"]["template"]["spec"],
        "workers": cluster["workerGroupSpecs"][0]["template"]["spec"],
    }


def command(kind):
    if kind == "cronjob":
        return pods(kind)["audit"]["containers"][0]["command"]
    objects = rendered(kind)
    job = objects["RayJob"]["spec"] if kind == "rayjob" else objects["RayCronJob"]["spec"]["jobTemplate"]
    return shlex.split(job["entrypoint"])


def closed(schema):
    """Return a CRD's schema that refuses unknown keys, which the API server would drop silently."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {key: closed(value) for key, value in schema.items()}
    if "properties" in shut and not shut.get("x-kubernetes-preserve-unknown-fields"):
        shut.setdefault("additionalProperties", False)
    return shut


@pytest.mark.parametrize("kind", list(KINDS))
def test_core_objects_and_pods_are_what_kubernetes_takes(kind):
    for manifest in rendered(kind).values():
        if not manifest["apiVersion"].startswith("ray.io"):
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    for name, spec in pods(kind).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_check_itself_refuses_what_kubernetes_does_not_know():
    manifest = rendered("cronjob")["CronJob"]
    manifest["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize(("kind", "name"), [("rayjob", "RayJob"), ("raycronjob", "RayCronJob")])
def test_ray_objects_are_what_kuberay_takes(kind, name):
    schema = closed(yaml.load(KUBERAY.read_text(encoding="utf-8"), yaml.CSafeLoader)[name])
    manifest = rendered(kind, size=Size(gpus=2, workers=3))[name]
    jsonschema.validate(manifest, schema)
    manifest["spec"]["concurrencyPolicy"] = "Forbid"  # neither has one
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, schema)


def test_a_cronjob_neither_overlaps_nor_retries_nor_stays_for_ever():
    spec = rendered("cronjob")["CronJob"]["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("0 3 * * MON", "Europe/Berlin")
    assert (spec["concurrencyPolicy"], spec["startingDeadlineSeconds"]) == ("Forbid", 3600)
    job = spec["jobTemplate"]["spec"]
    assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert job["ttlSecondsAfterFinished"] > 0
    assert job["activeDeadlineSeconds"] > 0
    [rule] = job["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_failed_gate_does_not_look_like_a_crash_and_the_command_exists(kind):
    words = command(kind)
    assert words[words.index("--gate-exit-code") + 1] == "0"
    assert words[0] == "difflens-audit"
    shown = CliRunner().invoke(app, [*words[1:3], "--help"])
    assert shown.exit_code == 0
    assert all(word in shown.output for word in words if word.startswith("--"))


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_unchanged_config_is_mounted_where_the_command_reads_it(kind):
    assert rendered(kind)["ConfigMap"]["data"] == {CONFIG_FILE: TEXT}
    path, output = command(kind)[3], command(kind)[command(kind).index("--output") + 1]
    for spec in pods(kind).values():
        mounts = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert (
            volumes[mounts[os.path.dirname(path)]]["configMap"]["name"]
            == rendered(kind)["ConfigMap"]["metadata"]["name"]
        )
        assert volumes[mounts[output]]["persistentVolumeClaim"]["claimName"] == "difflens-audit-runs"


@pytest.mark.parametrize("kind", list(KINDS))
def test_results_in_an_object_store_need_no_claim(kind):
    stored = TEXT + "output: s3://audits/runs\ntracking: {enabled: false}\n"
    [shown] = kubernetes_files(deployment(stored), kind).values()
    assert "--output s3://audits/runs" in shown.replace("\n", " ").replace("- ", "").replace("  ", "")
    assert "persistentVolumeClaim" not in shown
    assert "mountPath: /runs" not in shown


@pytest.mark.parametrize("kind", ["rayjob", "raycronjob"])
def test_only_pods_that_make_images_request_gpus(kind):
    head, workers = (pods(kind)[name]["containers"][0]["resources"] for name in ("head", "workers"))
    assert workers["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in head["requests"] | head["limits"]


def test_a_model_that_is_drawn_here_needs_no_gpu_and_one_from_outside_does():
    assert deployment().gpu_count == 0
    assert deployment("name: x\nmodel: {source: owner/name}\nprompts: {occupations: [doctor]}\n").gpu_count == 1
    assert deployment("name: x\nmodel: {source: rendered}\nworkers: {count: 7}\n").worker_count == 7


def test_names_are_those_that_kubernetes_allows():
    assert deployment().name == "difflens-weekly-audit-1"
    assert len(deployment(f"name: {'long-' * 11}x\n").name) <= 40


def test_a_ray_cron_job_is_labelled_alpha():
    note = rendered("raycronjob")["RayCronJob"]["metadata"]["annotations"]["difflens-audit/note"]
    assert "alpha" in note
    assert "disabled by default" in note


def test_a_config_that_no_config_map_holds_is_refused():
    with pytest.raises(ManifestError, match="at most 1 MB"):
        deployment(TEXT + "#" * 1_000_000)


def test_hostile_texts_stay_texts():
    hostile = "name: x # {{ 7*7 }} ${HOME} `id`\nprompts: {template: 'a: {occupation} & *b'}\n"
    objects = list(yaml.safe_load_all(to_yaml(KINDS["cronjob"](deployment(hostile)))))
    assert objects[0]["data"][CONFIG_FILE] == hostile
    assert len(objects) == 2


@pytest.fixture
def units(tmp_path):
    def make(**paths):
        program = tmp_path / "difflens-audit"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        fixed = {"program": program, "config": tmp_path / "audit.yaml", "output": tmp_path, "directory": tmp_path}
        fixed |= {"user": "audit", "time_zone": "Europe/Berlin"}
        return Units(name="weekly", **(fixed | paths), cron=Cron.parse("0 3 * * 1"))

    return make


def sections(text):
    from configparser import ConfigParser

    parser = ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    return parser


def test_the_timer_is_persistent_and_the_service_a_single_shot(units):
    timer, service = sections(to_unit(units().timer)), sections(to_unit(units().service))
    assert timer["Timer"]["OnCalendar"] == "Mon *-*-* 3:0:00 Europe/Berlin"
    assert (timer["Timer"]["Persistent"], timer["Timer"]["Unit"]) == ("true", "difflens-weekly.service")
    assert service["Service"]["Type"] == "oneshot"
    assert "--gate-exit-code 0" in service["Service"]["ExecStart"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["audit.yaml", "my $HOME %h audit.yaml", 'a "quoted" \\ name.yaml'])
def test_systemd_accepts_the_units_with_any_path(units, tmp_path, name):
    made = units(config=tmp_path / name)
    (tmp_path / "difflens-weekly.service").write_text(to_unit(made.service))
    (tmp_path / "difflens-weekly.timer").write_text(to_unit(made.timer))
    paths = [str(tmp_path / f"difflens-weekly.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "difflens" in line] == []
    assert done.returncode == 0


def test_a_path_with_a_line_end_is_refused(units, tmp_path):
    with pytest.raises(UnitError, match="printable"):
        units(config=tmp_path / "a\nExecStart=/bin/sh")


def test_units_run_the_program_beside_this_interpreter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = AuditConfig(name="weekly")
    files = systemd_files(scheduled(config), Path("audit.yaml"), Cron.parse("0 3 * * 1"), "UTC", "audit")
    service = sections(files["systemd/difflens-weekly.service"])["Service"]
    assert shlex.split(service["ExecStart"])[:4] == [
        str(Path(sys.executable).with_name("difflens-audit")), "schedule", "once", str(tmp_path / "audit.yaml")
    ]  # fmt: skip
    assert service["WorkingDirectory"] == str(tmp_path)
    assert shlex.split(service["ExecStart"])[8:10] == ["--output", str(tmp_path / "runs")]


def test_units_leave_an_address_in_an_object_store_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = AuditConfig(name="weekly", output="s3://bucket/runs", tracking={"enabled": False})
    files = systemd_files(scheduled(config), Path("audit.yaml"), Cron.parse("0 3 * * 1"), "UTC", "audit")
    service = sections(files["systemd/difflens-weekly.service"])["Service"]
    assert "--output s3://bucket/runs " in service["ExecStart"]


def test_a_unit_runs_as_a_user_and_no_name_can_add_a_setting(units):
    assert sections(to_unit(units().service))["Service"]["User"] == "audit"
    for name in ("", "au dit", "audit\nUser=root", "%u", "-audit"):
        with pytest.raises(UnitError, match=r"name one with --user"):
            units(user=name)


def rendered_by_command(tmp_path, text, *options):
    path = tmp_path / "weekly.yaml"
    path.write_text(text)
    words = ["schedule", "manifests", str(path), "--cron", "0 3 * * 1", "--output", str(tmp_path / "out"), *options]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.stderr


def test_a_unit_that_runs_as_root_raises_a_warning(tmp_path):
    assert "runs as root; set a user" in rendered_by_command(tmp_path, TEXT, "--kind", "systemd", "--user", "root")
    assert rendered_by_command(tmp_path, TEXT, "--kind", "systemd", "--user", "audit") == ""


def test_relative_paths_raise_a_warning_with_their_key(tmp_path):
    text = (
        "name: weekly\nmodel: {source: ./models/sd15}\nprompts: {occupations: [doctor]}\n"
        "judge: {source: fairface.pt, confusion: /data/confusion.json}\nquality: {clip: 'ViT-B-32:openai', "
        "features: inception.pth, reference: faces}\ntargets: {gender: {csv: labour.csv}}\noutput: runs\n"
    )
    shown = rendered_by_command(tmp_path, text, "--image", "example.com/audit:1")
    keys = [line.split(": ")[1] for line in shown.splitlines()]
    assert keys == ["model.source", "judge.source", "quality.features", "quality.reference", "targets.gender.csv"]
    assert "expected an absolute path that every pod sees, found 'faces'" in shown
    assert rendered_by_command(tmp_path, text, "--kind", "systemd", "--user", "audit") == ""  # it knows its directory
    hub = text.replace("./models/sd15", "owner/sd15")
    assert "model.source" not in rendered_by_command(tmp_path, hub, "--image", "example.com/audit:1")
