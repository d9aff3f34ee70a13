"""A realistic audit result for the report tests: 16 occupations, three attributes, two arms, seeded."""

from __future__ import annotations

import io
import shutil
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from audit.measure.inference.intervals import share_estimate
from audit.measure.shares.classifier_error import ConfusionMatrix
from audit.planning.targets import uniform_targets
from audit.records.attributes import Attribute
from audit.records.estimates import Estimate, LikeThese, OverPrompts
from audit.records.located.location import Decision, LocationMap, PlaceShare
from audit.records.opinions import JudgeAgreement, SecondView
from audit.records.quality import Measurement, QualityResult
from audit.records.result import AuditResult, FeatureFinding
from audit.records.verdicts import Verdict
from audit.records.work import BASELINE
from audit.results.arm_rows import ArmRows
from audit.results.changes import attribute_shifts, group_changes, missing_difference
from audit.results.groups import adjusted, overall_result, prompt_results
from audit.results.intersections import intersections
from audit.storage.run_directory import AUDIT, REPORT, RESULTS, RunDirectory, image_name
from benchmarks.mlflow_server import DATABASE, MlflowServer
from reports.export.audit_json import to_json
from reports.figures.pictures import Pictures
from reports.html import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip

ARM = "difflens-gender"
GROUPS = {
    "gender": ["female", "male"],
    "age": ["young", "adult", "old"],
    "skin_tone": ["light", "medium", "tan", "dark"],
}
MALE_SHARE = {
    "doctor": 0.97, "nurse": 0.04, "fire_fighter": 0.98, "judge": 0.91, "teacher": 0.22, "chef": 0.86, "pilot": 0.95,
    "librarian": 0.14, "farmer": 0.82, "astronaut": 0.66, "waiter": 0.52, "police_officer": 0.89, "hairdresser": 0.09,
    "scientist": 0.71, "artist": 0.48, "construction_worker": 0.99,
}  # fmt: skip
IMAGES = 64
STEPS = 25


def arm_of(rng, arm):
    """Rows of one arm: in each prompt all images but one are classified; the edited arm is near parity in gender."""
    size = IMAGES * len(MALE_SHARE)
    statuses = np.array((["classified"] * (IMAGES - 1) + ["low_confidence"]) * len(MALE_SHARE))
    shares = {name: [] for name in GROUPS}
    for male, mixed in zip(MALE_SHARE.values(), np.random.default_rng(1).dirichlet([4, 3, 2, 1], 16), strict=True):
        share = male if arm == BASELINE else 0.5 + (male - 0.5) * 0.08
        shares["gender"].append([1 - share, share])
        shares["age"].append(mixed[:3] / mixed[:3].sum())
        shares["skin_tone"].append(mixed)
    probabilities = {}
    for name, groups in GROUPS.items():
        codes = np.concatenate([rng.choice(len(groups), IMAGES, p=p) for p in shares[name]])
        probabilities[name] = np.eye(len(groups))[codes] * 0.96 + 0.04 / len(groups)
    prompts = {prompt: slice(i * IMAGES, (i + 1) * IMAGES) for i, prompt in enumerate(MALE_SHARE)}
    return ArmRows(arm, statuses, probabilities, prompts, {"clip_i": np.full(size, 0.9)})


def measured(rng, arms):
    """Return everything that the summary computes from the rows."""
    rows = {arm: arm_of(rng, arm) for arm in arms}
    attributes = [Attribute(name, tuple(groups)) for name, groups in GROUPS.items()]
    targets = uniform_targets(list(MALE_SHARE), attributes)
    matrix = ConfusionMatrix.of(GROUPS["gender"], [[190, 10], [6, 194]])

    def figures(arm, item):
        return rows[arm], item, targets, matrix if item.name == "gender" else None

    results = [
        row for arm in arms for row in adjusted([row for a in attributes for row in prompt_results(*figures(arm, a))])
    ]
    by_prompt = sorted(results, key=lambda row: list(MALE_SHARE).index(row.prompt_id))
    edited = [rows[arm] for arm in arms if arm != BASELINE]
    return {
        "results": tuple(by_prompt),
        "overall": tuple(overall_result(*figures(arm, item)) for arm in arms for item in attributes),
        "changes": tuple(c for arm in edited for c in group_changes(rows[BASELINE], arm, attributes, targets)),
        "shifts": attribute_shifts(rows[BASELINE], edited, attributes),
        "intersections": intersections(rows, attributes),
        "missing": {arm.arm: missing_difference(rows[BASELINE], arm) for arm in edited},
    }


def measurement(value, low=None, high=None, **extra):
    return Measurement(value, IMAGES * len(MALE_SHARE), "metric:cosine|net:bundled|n:1024", low, high, extra)


def quality_of(arms):
    rows = []
    for arm in arms:
        edited = arm != BASELINE
        shown = OverPrompts(**asdict(share_estimate(1011 if edited else 1020, 1024)), like_these=LikeThese(0.97, 0.995))
        rows.append(
            QualityResult(
                arm,
                measurement(0.941, 0.938, 0.944, rescaled=0.9705) if edited else None,
                measurement(0.312, 0.309, 0.315, rescaled=0.656),
                measurement(6.2, noise_floor=1.9) if edited else None,
                measurement(0.0041, 0.0032, 0.005, noise_floor=0.0003) if edited else None,
                shown,
                {"gender": 0.334, "age": 0.072, "skin_tone": 0.051} if edited else {},
            )
        )
    return rows


def lens_of(rng):
    prompts = list(MALE_SHARE)
    features = []
    for number, (attribute, group) in enumerate((name, group) for name in GROUPS for group in GROUPS[name]):
        for rank in range(8):
            values = rng.normal(0, 0.01 / (rank + 1), len(prompts))
            by_prompt = dict(zip(prompts, (values - values.mean()).tolist(), strict=True))
            latent = number * 97 + rank * 11
            features.append(asdict(FeatureFinding(attribute, group, latent, 0.08 / (rank + 1), 1.7 + rank, by_prompt)))
    steps = np.linspace(0, 1, STEPS)
    return {
        "name": "calibration-mid_block-4f2a",
        "fingerprint": "4f2a91c0",
        "model": "calibration",
        "settings": {"hookpoint": "mid_block", "expansion": 8, "k": 16},
        "quality": {
            "unexplained_variance": (0.22 - 0.12 * steps).tolist(),
            "dead_latents": 3,
            "latents": 1024,
            "decoder_cosine_mean": 0.07,
            "decoder_cosine_max": 0.81,
            "head_accuracy": {
                "gender": [1.0] * STEPS,
                "age": (0.93 + 0.05 * steps).tolist(),
                "skin_tone": (0.7 + 0.2 * steps).tolist(),
            },
            "completeness_gap": 3e-5,
        },
        "features": features,
        "strengths": {
            "gender": {p: {"female": round(0.5 + m, 3), "male": round(1.5 - m, 3)} for p, m in MALE_SHARE.items()}
        },
        "top_images": {str(item["latent"]): [f"top/{item['latent']}-{i}.webp" for i in range(4)] for item in features},
    }


def config_of(arms):
    mitigations = [
        {"name": arm, "method": "difflens", "attribute": "gender", "target": "uniform", "edit": "add"}
        for arm in arms
        if arm != BASELINE
    ]
    return {
        "name": "occupations",
        "seed": 7,
        "model": {"source": "calibration", "revision": None, "variant": None, "dtype": "float32", "world": None},
        "prompts": {"template": "a face photo of {a} {occupation}", "occupations": "all", "images_per_prompt": IMAGES},
        "sampling": {"steps": STEPS, "guidance": 3.0, "batch": 32},
        "attributes": GROUPS,
        "judge": {"source": "bundled", "min_confidence": 0.5},
        "lens": {"hookpoint": "mid_block"},
        "mitigations": mitigations,
        "quality": {"clip": "bundled", "features": "bundled", "reference": None},
        "report": {"images_per_prompt": 4, "keep": "shown", "max_mb": 20},
        "tracking": {"enabled": True, "uri": None, "experiment": "difflens-audit"},
    }


@cache  # its statistics take seconds, and no test changes a result
def sample_result(arms=(BASELINE, ARM), seed=11) -> AuditResult:
    rng = np.random.default_rng(seed)
    return AuditResult(
        run_id="occupations-3f9a12",
        config=config_of(arms),
        provenance={
            "versions": {"torch": "2.15.0", "diffusers": "0.42.1"},
            "model_fingerprint": "sha256:9d3b61",
            "device": "cpu",
            "git_revision": "1f2e3d4",
        },
        **measured(rng, arms),
        quality=tuple(quality_of(arms)),
        lens=lens_of(rng) if len(arms) > 1 else {},
    )


def face(male: bool, tone: int, size: int = 96) -> bytes:
    """A small WebP picture: a gradient with a face drawn on it."""
    ramp = np.linspace(120, 220, size, dtype=np.uint8)
    picture = Image.fromarray(np.stack([np.tile(ramp, (size, 1))] * 3, axis=-1))
    draw = ImageDraw.Draw(picture)
    skin = [(241, 205, 175), (205, 160, 120), (160, 110, 75), (95, 62, 45)][tone % 4]
    if not male:
        draw.ellipse((size * 0.16, size * 0.12, size * 0.84, size * 0.98), fill=(60, 40, 30))
    draw.ellipse((size * 0.26, size * 0.2, size * 0.74, size * 0.86), fill=skin)
    draw.pieslice((size * 0.24, size * 0.14, size * 0.76, size * 0.62), 180, 360, fill=(60, 40, 30))
    for x in (0.39, 0.61):
        draw.ellipse((size * (x - 0.04), size * 0.46, size * (x + 0.04), size * 0.53), fill=(25, 25, 25))
    draw.arc((size * 0.38, size * 0.58, size * 0.62, size * 0.76), 20, 160, fill=(120, 40, 40), width=2)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80)
    return buffer.getvalue()


def write_run(path: Path, result: AuditResult) -> RunDirectory:
    """A run directory as an audit writes it: audit.json, images of both arms, results.parquet, the lens's pictures."""
    run = RunDirectory(path)
    path.mkdir(parents=True, exist_ok=True)
    run.write_json(AUDIT, to_json(result))
    rng = np.random.default_rng(3)
    arms = list(dict.fromkeys(row.arm for row in result.results))
    for prompt in dict.fromkeys(row.prompt_id for row in result.results):
        for index in range(4):
            tone = int(rng.integers(4))
            for arm in arms:
                male = rng.random() < (MALE_SHARE[prompt] if arm == BASELINE else 0.5)
                target = run.file(image_name(prompt, index, arm))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(face(male, tone))
    for latent, names in (result.lens.get("top_images") or {}).items():
        for number, name in enumerate(names):
            target = run.file("lens") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(face(int(latent) % 2 == 1, number, size=48))
    run.file(RESULTS).write_bytes(b"PAR1")
    return run


@pytest.fixture(scope="session")
def result() -> AuditResult:
    return sample_result()


@pytest.fixture(scope="session")
def seconded(result) -> AuditResult:
    """The result with a second judge who contradicts two findings and does not judge age."""
    findings = [row for row in result.results if row.is_finding and row.arm == BASELINE and row.attribute == "gender"]
    views = []
    for number, row in enumerate(findings):
        group = max(row.shares, key=lambda name: row.shares[name].value)
        direction, seen = (("opposite", 10), ("opposite", 12), ("unclear", 31))[number] if number < 3 else ("same", 55)
        views.append(
            SecondView("clip", row.prompt_id, BASELINE, "gender", group, 0.5, share_estimate(seen, 63), direction)
        )
    agreement = (
        JudgeAgreement("clip", BASELINE, "gender", 1008, share_estimate(706, 1008), Estimate(0.4, 0.34, 0.46, 1008)),
        JudgeAgreement("clip", BASELINE, "age", 0, None, None),
        JudgeAgreement("clip", ARM, "gender", 1008, share_estimate(1008, 1008), None),
    )
    return replace(result, agreement=agreement, second_views=tuple(views))


@pytest.fixture(scope="session")
def sample():
    """Builds a result for any arms."""
    return sample_result


@pytest.fixture(scope="session")
def store_run():
    """Writes a result's run directory."""
    return write_run


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory, result) -> RunDirectory:
    return write_run(tmp_path_factory.mktemp("run") / result.run_id, result)


def make_verdict(kind="pass", **fields) -> Verdict:
    plain = {
        "gate": "even",
        "measure": "share:female",
        "attribute": "gender",
        "prompt_id": "doctor",
        "arm": BASELINE,
        "limit": 0.4,
        "side": "min",
        "value": 0.25,
        "low": 0.125,
        "high": 0.375,
        "confidence": 0.975,
        "n": 63,
        "verdict": kind,
        "level": "fail",
        "margin": -0.15,
    }
    return Verdict(**(plain | fields))


@pytest.fixture(scope="session")
def verdict():
    """Builds a verdict."""
    return make_verdict


@pytest.fixture(scope="session")
def page_text(result) -> str:
    """The report of the result, without pictures."""
    return render(result, Pictures({}, {}))


@pytest.fixture
def store_finished(tmp_path):
    """Writes only the three files of a finished audit, for tests that render nothing."""

    def store(result, directory=tmp_path / "runs") -> RunDirectory:
        run = RunDirectory(directory / result.run_id)
        run.write_json(AUDIT, to_json(result))
        run.file(RESULTS).write_bytes(b"PAR1")
        run.file(REPORT).write_text("<!doctype html><title>a report</title>")
        return run

    return store


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory) -> Path:
    """Creating MLflow's schema takes seconds, so it is created once and copied."""
    mlflow = pytest.importorskip("mlflow")
    path = tmp_path_factory.mktemp("mlflow") / "template.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory, migrated_database):
    """One server for all tests, since its start is slow. A test that stops it starts it again."""
    directory = tmp_path_factory.mktemp("server")
    shutil.copy(migrated_database, directory / DATABASE)
    server = MlflowServer(directory)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium; without it, its tests are skipped with a reason."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install Debian's chromium to run the browser tests")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'"
    )
    with playwright.sync_playwright() as driver:
        instance = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield instance
        instance.close()


@pytest.fixture(scope="session")
def located(result):
    """The result with a location map: three attributes, five places, windows of those that carry."""
    shares = {
        "mid_block": (48, 8, 0), "text:mid_block": (44, 0, 0), "text:up_blocks.0": (0, 48, 47),
        "skips:down_blocks.0": (43, 48, 4), "output:down_blocks.0": (10, 3, 0),
    }  # fmt: skip
    carriers = {"gender": ("text:mid_block", "mid_block"), "age": ("text:up_blocks.0", "skips:down_blocks.0")}

    def row(place, attribute, followed, counted, **changes):
        share = share_estimate(followed, counted)
        plain = PlaceShare(
            attribute, (GROUPS[attribute][0], GROUPS[attribute][-1]), place, "counted", share, (share, None), counted,
            48, share_estimate(1, 40), 16_000, 50,
        )  # fmt: skip
        return replace(plain, **changes)

    rows = [
        row(place, name, followed, 48)
        if place != "output:down_blocks.0"
        else row(place, name, min(followed, 8), 8, stage="screened", other_prompt=None)
        for place, counts in shares.items()
        for name, followed in zip(GROUPS, counts, strict=True)
    ]
    windows = [
        row(f"{place}@{window}", name, followed, 48, other_prompt=None)
        for name, places in carriers.items()
        for place in places
        for window, followed in (("0-0.33", 2), ("0.33-0.67", 40), ("0.67-1", 47))
    ]
    decisions = (*(Decision(name, own, (0.67, 1.0)) for name, own in carriers.items()), Decision("skin_tone", (), None))
    found = LocationMap("f" * 12, (*rows, *windows), decisions, 0.9, (8, 4), (3, 1), "ends", (0, 240), STEPS)
    return replace(result, location=found)
