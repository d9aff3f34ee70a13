"""Tests evidence bundles: what is in them, that every change is found, keys, and that nothing secret is in them."""

import io
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from audit.evidence.adherence import keep_protocol
from audit.evidence.archive import BundleError, archive_bytes, read_archive
from audit.evidence.keys import KeyFileError, private_key, trusted_key
from audit.evidence.manifest import MANIFEST, SIGNATURE, manifest_bytes
from audit.evidence.samples import SAMPLES, ordered
from audit.evidence.verification import verify
from audit.results.replay.outcome import REPLAY
from audit.storage.run_directory import RunDirectory
from ray_jobs.cli.commands import app
from reports.bundle import make_bundle
from reports.export import browser as printing

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, printing.PROGRAMS)), None)


def pem(key, password=None):
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def public_pem(key):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def certificate(key, begins, ends):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ada Example")])
    building = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    building = building.serial_number(1).not_valid_before(begins).not_valid_after(ends)
    return building.sign(key, None).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Files with keys, by name."""
    folder, key, other = tmp_path_factory.mktemp("keys"), Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    now, day = datetime.now(UTC), timedelta(days=1)
    contents = {
        "private": pem(key),
        "locked": pem(key, b"open sesame"),
        "public": public_pem(key),
        "other": public_pem(other),
        "valid": certificate(key, now - day, now + day),
        "expired": certificate(key, now - 2 * day, now - day),
        "early": certificate(key, now + day, now + 2 * day),
        "rsa": pem(rsa.generate_private_key(65537, 2048)),
        "rsa_public": public_pem(rsa.generate_private_key(65537, 2048)),
        "nonsense": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    }
    paths = {name: folder / f"{name}.pem" for name in contents}
    for name, data in contents.items():
        paths[name].write_bytes(data)
    return paths


@pytest.fixture(scope="module")
def no_pdf():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(printing.shutil, "which", lambda _name: None)
        yield


@pytest.fixture(scope="module")
def registered_run(made_run, tmp_path_factory, protocol_for, small_config, finish_run):
    """The small run with a protocol."""
    path = tmp_path_factory.mktemp("registered") / made_run.path.name
    shutil.copytree(made_run.path, path)
    run = RunDirectory(path)
    protocol = replace(protocol_for(small_config()), registered="2020-01-01T00:00:00+00:00")
    keep_protocol(run, json.dumps(protocol.as_data()).encode(), {})
    finish_run(small_config(), run)
    return run


@pytest.fixture(scope="module")
def signed(registered_run, tmp_path_factory, keys, no_pdf):
    """A signed bundle without a PDF, which keeps it small."""
    to = tmp_path_factory.mktemp("bundle") / "signed.zip"
    make_bundle(registered_run.path, to, keys["private"])
    return to


@pytest.fixture
def changed(signed, tmp_path):
    """Writes the bundle with other files, packed again by the same rules."""

    def write(change):
        files = read_archive(signed)
        change(files)
        path = tmp_path / "changed.zip"
        path.write_bytes(archive_bytes(files))
        return path

    return write


def test_a_bundle_has_the_evidence_and_verifies_with_key_and_certificate(signed, keys):
    names = set(read_archive(signed))
    assert names >= {
        "report.html", "audit.json", "config.json", "provenance.json", "protocol.json", "results.csv",
        "intersections.csv", "impact_ratios.csv", "summary.md", "junit.xml", "results.parquet", "samples.json",
        "dependencies.spdx.json", "README.txt", MANIFEST, SIGNATURE,
    }  # fmt: skip
    bare, known, dated = verify(signed), verify(signed, keys["public"]), verify(signed, keys["valid"])
    assert bare.signed_by == known.signed_by == dated.signed_by
    assert (bare.trusted, known.trusted, dated.trusted) == (False, True, True)
    assert known.key_until is None
    assert dated.key_until is not None
    assert bare.files == len(names) - 2


def test_five_pictures_of_each_prompt_are_those_that_the_rule_draws(signed, made_run):
    files = read_archive(signed)
    record = json.loads(files[SAMPLES])
    for prompt in ("doctor", "nurse"):
        drawn = ordered(made_run.path.name, prompt, range(12))[:5]
        assert record["drawn"][prompt] == list(drawn)
        assert {f"images/{prompt}/{index:05d}-baseline.webp" for index in drawn} <= set(files)
    assert record["drawn_from_kept_pictures"] == {}
    assert "BLAKE2b" in record["rule"]


def test_the_rule_in_words_draws_the_same(made_run):
    import hashlib

    def number(index):
        text = "\x1f".join((made_run.path.name, "sample", "nurse", str(index)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

    assert ordered(made_run.path.name, "nurse", range(12)) == tuple(sorted(range(12), key=number))


def test_a_run_without_kept_samples_draws_from_what_it_kept_and_says_so(make_run, tmp_path, no_pdf):
    run = make_run()
    (run.path / SAMPLES).unlink()
    for picture in (run.path / "images" / "nurse").glob("*.webp"):
        if int(picture.name[:5]) > 3:
            picture.unlink()
    made = make_bundle(run.path, tmp_path / "b.zip")
    record = json.loads(read_archive(made.path)[SAMPLES])
    assert sorted(record["drawn"]["nurse"]) == [0, 1, 2, 3]
    assert record["drawn_from_kept_pictures"] == {"nurse": [0, 1, 2, 3]}
    assert any("1 of 2 prompts" in note for note in made.notes)
    verify(made.path)


def test_samples_are_drawn_before_the_first_image_and_kept(made_run):
    drawn = made_run.read_json(SAMPLES)["drawn"]
    for prompt, indices in drawn.items():
        kept = {int(path.name[:5]) for path in (made_run.path / "images" / prompt).iterdir()}
        assert kept == {0, 1, 2, 3, *indices}


def test_equal_files_in_any_order_give_equal_bytes():
    files = {f"{letter}.txt": letter.encode() for letter in "dacb"}
    assert archive_bytes(files) == archive_bytes(dict(sorted(files.items())))
    with zipfile.ZipFile(io.BytesIO(archive_bytes(files))) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist() == sorted(files)


def test_any_changed_byte_is_found(signed, tmp_path):
    data, path = signed.read_bytes(), tmp_path / "flipped.zip"
    drawn = random.Random(3).sample(range(len(data)), 150)
    for position in {*range(120), *range(len(data) - 400, len(data)), *drawn}:
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x20]) + data[position + 1 :])
        with pytest.raises(BundleError):
            verify(path)


def test_a_truncated_or_prolonged_archive_is_refused(signed, tmp_path):
    data, path = signed.read_bytes(), tmp_path / "cut.zip"
    for length in (0, 1, 21, 22, 1000, len(data) // 2, len(data) - 22, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(BundleError, match="cut, damaged or no ZIP file"):
            verify(path)
    for longer in (data + b"\0", b"\0" + data):
        path.write_bytes(longer)
        with pytest.raises(BundleError):
            verify(path)


def test_a_file_that_is_changed_added_or_missing_is_named(changed):
    for change, message in (
        (lambda files: files.update({"results.csv": b"x"}), "results.csv has other content"),
        (lambda files: files.update({"extra.txt": b"x"}), "extra.txt was added"),
        (lambda files: files.pop("summary.md"), "summary.md is missing"),
        (lambda files: files.pop(MANIFEST), "found no such file"),
        (lambda files: files.pop(SIGNATURE), "expected manifest.sig beside a signed manifest.json"),
        (lambda files: files.update({SIGNATURE: files[SIGNATURE][::-1]}), "found another one"),
    ):
        with pytest.raises(BundleError, match=message):
            verify(changed(change))


def forged(change):
    """Change files and make a new, unsigned manifest, as somebody without the key can."""

    def apply(files):
        change(files)
        files.pop(SIGNATURE)
        own = {name: data for name, data in files.items() if name != MANIFEST}
        run_id = json.loads(files[MANIFEST])["run_id"]
        files[MANIFEST] = manifest_bytes(run_id, "2026-01-01T00:00:00+00:00", own, None)

    return apply


def test_a_forged_manifest_verifies_only_as_unsigned(changed, keys):
    path = changed(forged(lambda files: files.update({"summary.md": b"all is well"})))
    assert verify(path).signed_by is None
    with pytest.raises(BundleError, match="found a bundle without a signature"):
        verify(path, keys["public"])


def edited(name, change):
    def apply(files):
        data = json.loads(files[name])
        change(data)
        files[name] = json.dumps(data).encode()

    return forged(apply)


def test_what_contradicts_itself_is_found_even_with_right_checksums(changed):
    for change, message in (
        (edited(SAMPLES, lambda data: data["drawn"]["nurse"].reverse()), "the samples of nurse are not those"),
        (edited(SAMPLES, lambda data: data["images"].update(nurse=10**12)), "expected the record of a draw"),
        (edited("protocol.json", lambda data: data["config"].update(seed=9)), "changed since"),
        (edited("audit.json", lambda data: data.update(run_id="other")), "name different runs"),
        (forged(lambda files: files.pop("protocol.json")), "protocol.json is missing"),
    ):
        with pytest.raises(BundleError, match=message):
            verify(changed(change))


def packed(path, *entries):
    """A ZIP file with the given (name, mode, compression) and one byte in each."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, mode, compression in entries:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr, entry.compress_type = 3, mode << 16, compression
            archive.writestr(entry, b"x")
    return path


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("../evil", 0o100644, 0)], "points outside"),
        ([("/etc/evil", 0o100644, 0)], "points outside"),
        ([("a/../../evil", 0o100644, 0)], "points outside"),
        ([("a\\..\\evil", 0o100644, 0)], "points outside"),
        ([("C:evil", 0o100644, 0)], "points outside"),
        ([("a//b", 0o100644, 0)], "points outside"),
        ([("link", 0o120777, 0)], "a link"),
        ([("folder/", 0o040755, 0)], "points outside"),
        ([("pipe", 0o010644, 0)], "no plain file"),
        ([("small", 0o100644, zipfile.ZIP_DEFLATED)], "compressed or encrypted"),
    ],
)
def test_members_that_could_do_harm_are_refused(tmp_path, entries, message):
    with pytest.raises(BundleError, match=message):
        verify(packed(tmp_path / "evil.zip", *entries))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path):
    with pytest.raises(BundleError, match="the name 'a' twice"):
        verify(packed(tmp_path / "twice.zip", ("a", 0o100644, 0), ("a", 0o100644, 0)))


def test_a_name_with_a_zero_byte_is_refused(tmp_path):
    path = packed(tmp_path / "zero.zip", ("aXb", 0o100644, 0))
    path.write_bytes(path.read_bytes().replace(b"aXb", b"a\0b"))
    with pytest.raises(BundleError):
        verify(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other", "another person"),
        ("expired", "expired on"),
        ("early", "valid from"),
        ("rsa_public", "another kind of key"),
        ("nonsense", "found none that can be read"),
        ("private", "looks like a private key"),
    ],
)
def test_a_key_that_is_not_the_auditors_valid_one_is_refused(signed, keys, name, message):
    answer = CliRunner().invoke(app, ["verify", str(signed), "--public-key", str(keys[name])])
    assert answer.exit_code == 2
    assert message in answer.output


def test_a_certificate_is_valid_to_its_last_moment_only(keys):
    ends = trusted_key(keys["valid"]).until
    assert trusted_key(keys["valid"], ends).until == ends
    with pytest.raises(KeyFileError, match="expired"):
        trusted_key(keys["valid"], ends + timedelta(seconds=1))


def test_private_keys_that_cannot_sign_are_refused_in_words(keys, monkeypatch, tmp_path):
    with pytest.raises(KeyFileError, match="an encrypted key; set DIFFLENS_KEY_PASSWORD"):
        private_key(keys["locked"])
    for name in ("rsa", "public"):
        with pytest.raises(KeyFileError, match="expected a private Ed25519 key"):
            private_key(keys[name])
    with pytest.raises(KeyFileError, match="no readable file"):
        private_key(tmp_path / "absent.pem")
    monkeypatch.setenv("DIFFLENS_KEY_PASSWORD", "open sesame")
    assert private_key(keys["locked"]).sign(b"x") == private_key_of(keys["private"], monkeypatch).sign(b"x")
    monkeypatch.setenv("DIFFLENS_KEY_PASSWORD", "wrong")
    with pytest.raises(KeyFileError, match="check the file and its password"):
        private_key(keys["locked"])


def private_key_of(path, monkeypatch):
    monkeypatch.delenv("DIFFLENS_KEY_PASSWORD")
    return private_key(path)


SECRETS = ("hush-hush-token-9", "hunter2-hunter2", "path-of-a-hook", "/home/alice", "sk-key-of-an-endpoint")


def test_nothing_secret_is_in_a_bundle(make_small_run, small_config, tmp_path, monkeypatch, no_pdf, protocol_for):
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS[4])
    monkeypatch.setenv("SOME_TOKEN", SECRETS[0])
    monkeypatch.setenv("HOOK_SECRET", "another-long-secret")
    config = small_config(
        tracking={"enabled": False, "uri": f"postgresql://ann:{SECRETS[1]}@127.0.0.1:1/mlflow"},
        alerts={"webhook": f"https://hooks.example.test/{SECRETS[2]}", "secret_env": "HOOK_SECRET"},
        statement={"known_gaps": f"Weights are in /home/alice/weights; key {SECRETS[4]}, token {SECRETS[0]}."},
    )
    run = make_small_run(config, tmp_path / "runs")
    plain = run.read_json("audit.json")
    plain["config"]["model"]["world"] = "/home/alice/world.yaml"
    plain["provenance"]["instruments"] = {"webhook": f"https://hooks.example.test/{SECRETS[2]}", "by": SECRETS[0]}
    run.write_json("audit.json", plain)
    to = tmp_path / "b.zip"
    make_bundle(run.path, to)
    assert [secret for secret in SECRETS if secret.encode() in to.read_bytes()] == []
    config_of_bundle = json.loads(read_archive(to)["config.json"])
    assert config_of_bundle["model"]["world"] == "~/world.yaml"
    assert "~/weights" in config_of_bundle["statement"]["known_gaps"]
    assert "***" in config_of_bundle["statement"]["known_gaps"]


def test_a_secret_in_a_file_that_is_copied_stops_the_bundle(make_run, tmp_path, monkeypatch, no_pdf):
    run = make_run()
    monkeypatch.setenv("SOME_TOKEN", "hush-hush-token-9")
    (run.path / "results.parquet").write_bytes(b"PAR1 hush-hush-token-9")
    with pytest.raises(BundleError, match=r"found the value of a secret variable .* in results.parquet"):
        make_bundle(run.path, tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()


def test_packages_are_listed_with_versions_and_licences(signed):
    listed = json.loads(read_archive(signed)["dependencies.spdx.json"])
    by_name = {one["name"].lower(): one for one in listed["packages"]}
    assert listed["spdxVersion"] == "SPDX-2.3"
    assert by_name["numpy"]["versionInfo"]
    assert by_name["ray"]["licenseDeclared"] != "" != by_name["ray"].get("licenseComments", "x")
    assert len({one["SPDXID"] for one in listed["packages"]}) == len(listed["packages"])
    known = [one for one in by_name.values() if one["licenseDeclared"] != "NOASSERTION" or "licenseComments" in one]
    assert len(known) > len(by_name) / 2


def test_a_bundle_verifies_on_another_checkout(signed, keys, tmp_path):
    for package in ("audit", "ray_jobs", "reports"):
        shutil.copytree(
            ROOT / package, tmp_path / "other" / package, ignore=shutil.ignore_patterns("*.webp", "*.safetensors")
        )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "other")}
    command = [sys.executable, "-m", "ray_jobs", "verify", str(signed), "--public-key", str(keys["valid"]), "--json"]
    done = subprocess.run(command, cwd=tmp_path / "other", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trusted"]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_report_is_printed_from_the_same_page(made_run, tmp_path, monkeypatch):
    to = tmp_path / "b.zip"
    monkeypatch.undo()
    monkeypatch.setattr(printing.shutil, "which", lambda name: CHROMIUM if name == "chromium" else None)
    made = make_bundle(made_run.path, to)
    data = read_archive(to)["report.pdf"]
    assert made.no_pdf == ""
    assert data.startswith(b"%PDF-")
    assert b"%%EOF" in data[-20:]
    assert 20_000 < len(data) < 5_000_000


def test_without_chromium_the_bundle_says_that_there_is_no_pdf(make_run, tmp_path, no_pdf):
    answer = CliRunner().invoke(app, ["bundle", str(make_run().path), "--to", str(tmp_path / "b.zip")])
    assert answer.exit_code == 0, answer.output
    assert "no Chromium was found" in answer.output
    assert b"printed (absent)" in read_archive(tmp_path / "b.zip")["README.txt"]


def test_an_unfinished_run_and_an_impossible_file_are_mistakes(tmp_path, make_run, no_pdf):
    unfinished = make_run("unfinished")
    (unfinished.path / "audit.json").unlink()
    for run, to, message in (
        (unfinished.path, tmp_path / "b.zip", "finish the audit first"),
        (make_run("whole").path, tmp_path / "absent" / "b.zip", "expected a file that can be written"),
    ):
        answer = CliRunner().invoke(app, ["bundle", str(run), "--to", str(to)])
        assert answer.exit_code == 2
        assert message in answer.output


def test_the_outcome_of_a_replay_is_in_the_bundle_without_home_directories(make_run, tmp_path, no_pdf):
    run, to = make_run(), tmp_path / "replay.zip"
    facts = [{"name": "files", "words": f"other files in {Path.home()}/models"}]
    run.write_json(REPLAY, {"verdict": "identical", "run": "first", "facts": facts})
    make_bundle(run.path, to)
    files = read_archive(to)
    found = json.loads(files[REPLAY])
    assert (found["verdict"], found["run"]) == ("identical", "first")
    assert str(Path.home()) not in files[REPLAY].decode()
    assert "replay.json             what making another run again has shown; this run is that replay\n" in (
        files["README.txt"].decode()
    )
    assert verify(to).files == len(files) - 1


def test_a_bundle_of_an_ordinary_run_has_no_replay(signed):
    files = read_archive(signed)
    assert REPLAY not in files
    assert "this run is that replay (absent)" in files["README.txt"].decode()


def test_half_a_replay_is_refused(make_run, tmp_path):
    run = make_run()
    run.write_bytes(REPLAY, b'{"verdict": "ident')
    with pytest.raises(BundleError, match=r"replay\.json: expected a file written by an audit.*make the replay again"):
        make_bundle(run.path, tmp_path / "replay.zip")
