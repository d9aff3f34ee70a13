"""Baseline images are kept for later audits of the same model, whose rows are the same as without."""

from dataclasses import replace

import pytest
import torch

from audit.calibration.bundle import bundle_of
from audit.config.sections import ModelConfig
from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.generation.baselines import BaselineCache, Origin
from audit.generation.parts import load_parts
from audit.generation.settings import ShardSettings
from audit.generation.shard import do_shard
from audit.models.replay import SharedSteps
from audit.planning.plan import plan_shards, prompts_of, steps_of_arms
from audit.records.work import BASELINE
from audit.storage.files import storage_of

LIMIT = 10_000_000
CONFIG = {
    "name": "kept",
    "prompts": {"occupations": ["nurse"], "images_per_prompt": 3},
    "sampling": {"batch": 4},
    "quality": {"clip": "none", "features": "none"},
}
GENDER = {"name": "difflens-gender", "attribute": "gender"}
WORDS = {"name": "words", "method": "prompt", "attribute": "gender"}


@pytest.fixture(scope="module")
def lens():
    [path] = bundle_of(ModelConfig()).lenses.iterdir()
    return path


@pytest.fixture(scope="module")
def shard():
    config = AuditConfig.model_validate(CONFIG)
    [found] = plan_shards(prompts_of(config.prompts, ()), 3, 4)
    return found


def parts_of(lens, *mitigations):
    request = MeasurementRequest.of(AuditConfig.model_validate(CONFIG | {"mitigations": mitigations}))
    return load_parts(request, lens), ShardSettings.of(request)


def cached(parts, place, limit=LIMIT):
    generator, lens = parts.generator, "" if parts.lens is None else parts.lens.name
    origin = Origin(generator.fingerprint, generator.sampling, "float32", 1, lens)
    return replace(parts, baselines=BaselineCache(storage_of(place), origin, limit))


def counted(parts, monkeypatch):
    """Count the calls of the generator."""
    calls, generate = [], parts.generator.generate
    monkeypatch.setattr(
        parts.generator, "generate", lambda *given, **named: calls.append(given) or generate(*given, **named)
    )
    return calls


def test_an_audit_with_another_mitigation_makes_only_its_own_arm(lens, shard, tmp_path, monkeypatch):
    first, settings = parts_of(lens, GENDER)
    do_shard(cached(first, tmp_path), settings, shard)
    second, other = parts_of(lens, GENDER | {"name": "weaker", "strength": 0.5})
    plain = do_shard(second, other, shard)
    calls = counted(second, monkeypatch)
    found = do_shard(cached(second, tmp_path), other, shard)
    assert len(calls) == 1
    assert found.table.equals(plain.table)
    assert torch.equal(found.images[BASELINE], plain.images[BASELINE])
    for name, value in plain.parts["attribution"].items():
        again = found.parts["attribution"][name]
        assert (again.shape, again.dtype) == (value.shape, value.dtype)
        assert (again == value).all()


def test_images_are_kept_once_whatever_is_edited_and_activations_beside_them(lens, shard, tmp_path, monkeypatch):
    plain = {"prompts": CONFIG["prompts"] | {"attribution": False}}
    monkeypatch.setitem(CONFIG, "prompts", plain["prompts"])
    words, settings = parts_of(None, WORDS)
    do_shard(cached(words, tmp_path), settings, shard)
    [images] = tmp_path.glob("*.safetensors")
    first, other = parts_of(lens, GENDER)
    calls = counted(first, monkeypatch)
    made = do_shard(cached(first, tmp_path), other, shard)
    assert len(calls) == 2  # its arm, and the baseline once more for the activations
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    [vectors] = set(tmp_path.glob("*.safetensors")) - {images}
    assert vectors.stat().st_size < images.stat().st_size * 2
    calls.clear()
    again = do_shard(cached(first, tmp_path), other, shard)
    assert len(calls) == 1
    assert again.table.equals(made.table)


def test_an_audit_that_also_attributes_does_not_use_images_without_attribution(lens, shard, tmp_path, monkeypatch):
    without, settings = parts_of(None, WORDS)
    do_shard(cached(without, tmp_path), settings, shard)
    attributing, other = parts_of(lens, GENDER)
    calls = counted(attributing, monkeypatch)
    found = do_shard(cached(attributing, tmp_path), other, shard)
    assert len(calls) == 2
    assert "attribution" in found.parts


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _data: b"", lambda _data: b"{}"])
def test_a_damaged_file_is_made_again(shard, tmp_path, monkeypatch, damage):
    parts, settings = parts_of(None)
    plain = do_shard(cached(parts, tmp_path), settings, shard)
    [file] = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    calls = counted(parts, monkeypatch)
    assert do_shard(cached(parts, tmp_path), settings, shard).table.equals(plain.table)
    assert len(calls) == 1
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    "changes",
    [{"sampling": {"batch": 3}}, {"sampling": {"batch": 4, "steps": 20}}, {"seed": 1}],
    ids=["batch", "steps", "seed"],
)
def test_what_changes_an_image_finds_nothing(shard, tmp_path, monkeypatch, changes):
    parts, settings = parts_of(None)
    do_shard(cached(parts, tmp_path), settings, shard)
    request = MeasurementRequest.of(AuditConfig.model_validate(CONFIG | changes))
    other = load_parts(request, None)
    calls = counted(other, monkeypatch)
    do_shard(cached(other, tmp_path), ShardSettings.of(request), shard)
    assert len(calls) == 1


def test_compiled_images_have_another_name_than_plain_ones(shard):
    sampled = ({"steps": 25}, {"steps": 25, "compiled": "BasicTransformerBlock"})
    plain, compiled = (Origin("m", sampling, "float32", 1, "").name(shard, 0, 4, ()) for sampling in sampled)
    assert plain != compiled


def test_a_full_directory_takes_no_more_and_counts_earlier_audits(shard, tmp_path):
    parts, settings = parts_of(None)
    do_shard(cached(parts, tmp_path, limit=1000), settings, shard)
    assert not list(tmp_path.glob("*.safetensors"))
    do_shard(cached(parts, tmp_path), settings, shard)
    [file] = tmp_path.glob("*.safetensors")
    full = cached(parts, tmp_path, limit=file.stat().st_size)
    do_shard(full, replace(settings, seed=5), shard)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


LATE = [GENDER | {"name": f"from-{start}", "window": [start, 1.0], "strength": 0.5} for start in (0.4, 0.8)]


def test_arms_that_act_late_share_the_baseline_s_first_steps(lens, shard, tmp_path, monkeypatch):
    parts, settings = parts_of(lens, *LATE)
    calls = []
    parts.generator.denoiser.mid_block.register_forward_hook(lambda *_: calls.append(1))
    found, steps = do_shard(parts, settings, shard), parts.generator.steps
    groups = {attribute.name: attribute.groups for attribute in settings.attributes}
    assert len(calls) == steps_of_arms(settings.mitigations, steps, groups) == 3 * steps - (10 + 20)
    kept = cached(parts, tmp_path)
    do_shard(kept, settings, shard)
    calls.clear()
    again = do_shard(kept, settings, shard)  # the baseline is kept, so the first arm computes the first steps
    assert len(calls) == steps + steps - 10
    with monkeypatch.context() as alone:
        alone.setattr(SharedSteps, "of", lambda *_: SharedSteps(0))
        calls.clear()
        plain = do_shard(parts, settings, shard)
    assert len(calls) == 3 * steps
    assert found.table.equals(plain.table)
    assert again.table.equals(plain.table)
