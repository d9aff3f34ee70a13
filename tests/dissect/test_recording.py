"""A dissection on disk: it resumes bit-identical, limits what it records, and refuses what it cannot store."""

from dataclasses import replace

import pytest
import torch

from audit.config.sections import LensConfig, ModelConfig
from audit.dissect import build as build_module
from audit.dissect import settings as lens_settings_module
from audit.dissect.recording import layout as layout_module
from audit.dissect.recording import recorder as recorder_module
from audit.dissect.recording.files import opened_part
from audit.dissect.recording.forecast import forecast
from audit.dissect.recording.joined_tensor import JoinedTensor
from audit.dissect.recording.recorder import Recorder
from audit.dissect.recording.stored_parts import PART_FILE, missing_parts
from audit.dissect.recording.stored_tensor import StoredTensor
from audit.dissect.recording.trajectories import plan_trajectories, recorded_trajectories
from audit.dissect.sae_training import training_of
from audit.dissect.settings import Dissection
from audit.models.generator import load_generator
from tests.dissect.test_build import (
    GROUPS,
    PROMPTS,
    SAMPLING,
    STEPS,
    TEMPLATE,
    TRAJECTORIES,
    TintJudge,
    built,
    plan_of,
    recorded,
    settings,
)

SDXL_SHAPE, FLUX_SHAPE = (1280, 32, 32), (3072, 4096, 1)


@pytest.fixture(scope="module")
def generator(tiny_pipeline):
    return load_generator(ModelConfig(source=str(tiny_pipeline)), SAMPLING)


def same(one, other):
    heads = zip(one.heads.weights.values(), other.heads.weights.values(), strict=True)
    return (
        all(torch.equal(a, b) for a, b in zip(one.sae.parameters(), other.sae.parameters(), strict=True))
        and all(torch.equal(a, b) for a, b in heads)
        and one.features == other.features
        and one.quality == other.quality
    )


@pytest.fixture(scope="module")
def whole(generator, tmp_path_factory):
    return built(generator, settings(), tmp_path_factory.mktemp("whole"))


class Killed(Exception):
    pass


class Counting:
    """A generator that counts images and dies in a batch."""

    def __init__(self, generator, dies_in=None):
        self._generator, self.dies_in, self.images, self.batches = generator, dies_in, 0, 0
        self.steps = generator.steps

    def sample(self, texts, seeds, observers):
        def dying(observe):
            def seen(step, h):
                observe(step, h)
                if self.batches == self.dies_in and step == 1:
                    raise Killed

            return seen

        images = self._generator.sample(texts, seeds, observers={p: dying(o) for p, o in observers.items()})
        self.batches += 1
        self.images += len(seeds)
        return images


def test_an_interrupted_dissection_continues_and_gives_the_same_lens(generator, whole, tmp_path):
    with pytest.raises(Killed):
        built(Counting(generator, dies_in=1), settings(), tmp_path)
    again = Counting(generator)
    lens, _ = built(again, settings(), tmp_path)
    assert again.images == TRAJECTORIES - 16
    assert same(lens, whole[0])


def test_parts_in_any_order_give_the_same_lens(generator, whole, tmp_path):
    plan = plan_of(settings())
    for part in reversed(plan.parts):  # another worker records each of them
        Recorder(generator, TintJudge(), GROUPS, plan).record(part, tmp_path / part.id, TRAJECTORIES)
    assert missing_parts(plan, tmp_path) == []
    assert same(built(generator, settings(), tmp_path)[0], whole[0])


@pytest.mark.parametrize("damage", ["header", "truncated", "other stream", "list", "no header"])
def test_a_damaged_part_alone_is_sampled_again(generator, whole, tmp_path, damage):
    recorded(generator, settings(), tmp_path)
    part = tmp_path / plan_of(settings()).parts[1].id
    header = part / PART_FILE
    if damage == "header":
        header.write_text('{"steps": 3, "streams"')
    elif damage == "truncated":
        (part / "maps-0.bin").write_bytes((part / "maps-0.bin").read_bytes()[:-7])
    elif damage == "other stream":
        header.write_text(header.read_text().replace("mid_block", "up_blocks.0"))
    elif damage == "list":
        header.write_text("[]")
    else:
        header.unlink()
    again = Counting(generator)
    recording = recorded(again, settings(), tmp_path)
    assert again.images == 16
    assert torch.equal(recording.maps[:], whole[1].maps[:])


@pytest.mark.parametrize("header", ["{}", '{"steps": 3, "streams": [{"hookpoint": "x", "shape": [1, 2]}]}'])
def test_a_header_of_something_else_is_an_error_of_one_line(tmp_path, header):
    (tmp_path / PART_FILE).write_text(header)
    with pytest.raises(ValueError, match=r"header of a part"):
        opened_part(tmp_path, plan_of(settings()))


VARIANTS = {
    "k": {"k": 2},
    "width": {"expansion": 8},
    "hookpoint": {"hookpoint": "up_blocks.0"},
    "whole map": {"whole_map": True, "expansion": 1},
    "vectors": {"sae_steps": 20},
}


def test_lenses_from_one_recording_are_those_that_are_made_alone(generator, whole, tmp_path, monkeypatch):
    for module in (layout_module, build_module):  # so few vectors that a sample of positions is recorded
        usual = module.training_of
        monkeypatch.setattr(module, "training_of", lambda of, usual=usual: replace(usual(of), buffer=256, batch=64))
    chosen = [settings(), *(replace(settings(), **change) for change in VARIANTS.values())]
    plan, counting = plan_of(*chosen), Counting(generator)
    together = [built(counting, one, tmp_path / "together", plan=plan)[0] for one in chosen]
    assert counting.images == TRAJECTORIES
    for number, (lens, one) in enumerate(zip(together, chosen, strict=True)):
        alone, recording = built(generator, one, tmp_path / str(number))
        assert (recording.sample is not None) == (not one.whole_map)
        assert same(lens, alone), one
    assert len({tuple(lens.sae.decoder.shape) for lens in together}) > 2


def test_a_lens_is_made_from_a_recording_that_holds_more(generator, tmp_path):
    both = plan_of(settings(), replace(settings(), hookpoint="up_blocks.0"))
    recorded(generator, settings(), tmp_path, both)
    again = Counting(generator)
    alone = replace(settings(), hookpoint="up_blocks.0")
    recording = recorded(again, alone, tmp_path)
    assert again.images == 0
    assert recording.shape == recorded(generator, alone, tmp_path / "alone").shape
    assert torch.equal(recording.maps[:], recorded(generator, alone, tmp_path / "alone").maps[:])


def test_lenses_of_other_images_are_not_recorded_together():
    with pytest.raises(ValueError, match="lenses of the same images, found 2"):
        plan_of(settings(), replace(settings(), guidance=1.0))


def test_a_limit_records_whole_pairs_and_trains_from_all_trajectories(generator, tmp_path):
    chosen = replace(settings("counterfactual"), recorded=20)
    lens, recording = built(generator, chosen, tmp_path)
    assert recording.maps.shape == (STEPS, 20, 256)
    assert recording.sample.shape == (TRAJECTORIES, STEPS, 16, 16)
    paired = recording.partners >= 0
    assert paired.sum() == 10
    assert torch.equal(recording.partners[recording.partners[paired]], paired.nonzero().flatten())
    assert sum(len(features) for features in lens.features["tint"].values()) > 0
    trajectories = torch.cat([batch.trajectories for batch in recording.activations(chosen)])
    assert len(trajectories.unique()) == TRAJECTORIES


def test_recorded_maps_of_a_limit_are_those_of_a_whole_recording(generator, whole, tmp_path):
    chosen = replace(settings(), recorded=20)
    kept = recorded_trajectories(plan_trajectories(PROMPTS, GROUPS, TEMPLATE, chosen), chosen)
    recording = recorded(generator, chosen, tmp_path)
    assert torch.equal(recording.maps[:], whole[1].maps[:][:, kept])


def test_blocks_of_any_size_give_the_same_lens(generator, whole, tmp_path, monkeypatch):
    # Blocks of another size sum in another order, and training enlarges the difference for a latent that hardly fires:
    # equal are what the dictionary says and how well, not every number in it.
    monkeypatch.setattr(lens_settings_module, "BLOCK_BYTES", 1 << 12)
    lens, _ = built(generator, settings(), tmp_path)
    cosines = torch.cosine_similarity(lens.sae.decoder, whole[0].sae.decoder)
    assert cosines.min() > 0.99
    assert cosines.median() > 0.9999
    assert lens.quality["unexplained_variance"] == pytest.approx(whole[0].quality["unexplained_variance"], rel=0.01)
    torch.testing.assert_close(lens.heads.weights["tint"], whole[0].heads.weights["tint"], atol=1e-4, rtol=1e-3)
    for group in ("dark", "bright"):
        found, wanted = ({f.latent for f in x.features["tint"][group]} for x in (lens, whole[0]))
        assert len(found & wanted) >= len(wanted) - 1


def test_maps_in_bfloat16_keep_their_range_and_overflow_is_refused():
    h = torch.full((1, 2, 2, 2), 3e5)
    assert torch.equal(recorder_module._stored(h.bfloat16()), h.bfloat16())
    with pytest.raises(ValueError, match=r"up to 65504, found 300000; set model.dtype: bfloat16"):
        recorder_module._stored(h)
    with pytest.raises(ValueError, match="finite"):
        recorder_module._stored(h.bfloat16() * torch.nan)


def test_a_stored_tensor_of_bfloat16_is_read_as_it_was_written(tmp_path):
    stored = StoredTensor(tmp_path / "x.bin", (3, 4, 5), torch.bfloat16)
    stored.create()
    values = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).bfloat16() * 1e6
    stored[1, torch.tensor([0, 3])] = values
    assert torch.equal(stored[1, torch.tensor([3]), :], values[1:])
    assert torch.equal(stored[1, :, 2:4][0], values[0, 2:4])
    assert not stored[0].any()


KEYS = {
    "rows of one step": (1, torch.tensor([7, 0, 3, 3, 9])),
    "a slice": (slice(None), slice(2, 9)),
    "an order": (slice(None), torch.tensor([9, 8, 1])),
    "columns": (0, slice(None), slice(1, 3)),
    "one row": (slice(None), 4),
    "none": (2, torch.zeros(0, dtype=torch.long)),
    "all": slice(None),
    "a mask": (slice(None), torch.arange(10) % 3 == 0),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_joined_tensor_is_read_as_one_tensor(tmp_path, key):
    whole = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(0)).half()
    parts = []
    for number, rows in enumerate((slice(0, 4), slice(4, 4), slice(4, 9), slice(9, 10))):
        values = whole[:, rows]
        parts.append(StoredTensor(tmp_path / str(number), tuple(values.shape), torch.float16))
        parts[-1].create()
        if values.numel():
            parts[-1][:] = values
    joined = JoinedTensor(parts, 1)
    assert joined.shape == whole.shape
    assert torch.equal(joined[key], whole[key])


@pytest.mark.parametrize(("left", "needed"), [(384, "expected 5\\d"), (192, "expected 2\\d")])
def test_too_little_disk_for_what_is_left_is_refused_with_what_fits(tmp_path, monkeypatch, left, needed):
    plan = plan_of(replace(settings(), trajectories=384))
    keeper = recorder_module._Keeper(plan, plan.parts[0], tmp_path / "0", left, 50, ("tint",))
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 20 * 10**9})())
    message = needed + r"\.\d GB .* found 20\.0 GB; set lens.recorded_trajectories to \d\d\d or less"
    with pytest.raises(ValueError, match=message):
        keeper.keep("mid_block", 0, torch.zeros(16, *SDXL_SHAPE))


def test_the_disk_must_hold_the_maps_of_every_hookpoint(tmp_path, monkeypatch):
    chosen = replace(settings(), trajectories=384)
    plan = plan_of(chosen, replace(chosen, hookpoint="up_blocks.0"))
    keeper = recorder_module._Keeper(plan, plan.parts[0], tmp_path / "0", 384, 50, ("tint",))
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 80 * 10**9})())
    keeper.keep("mid_block", 0, torch.zeros(16, *SDXL_SHAPE))
    with pytest.raises(ValueError, match=r"expected 10\d GB"):
        keeper.keep("up_blocks.0", 0, torch.zeros(16, *SDXL_SHAPE))


def a_dissection(trajectories, recorded=2048):
    return Dissection("mid_block", False, 8, 16, trajectories, recorded, 1500, 30, "zero", 50, 7.5, 16, 0)


def test_the_forecast_of_real_models_is_flat_in_the_trajectories():
    few, many = (forecast([a_dissection(n)], [2, 3], 50, {"mid_block": SDXL_SHAPE}) for n in (384, 100_000))
    assert few.disk == pytest.approx(50e9, rel=0.15)
    assert many.memory < 1.1 * few.memory
    assert forecast([a_dissection(10_000, 384)], [2], 28, {"mid_block": FLUX_SHAPE}).memory < 40e9


def test_the_buffer_is_limited_in_bytes():
    training = training_of(a_dissection(384))
    assert training.buffered(128 * 2) == 1 << 20
    assert training.buffered(3072 * 2) * 3072 * 2 <= 4 << 30
    assert training.buffered(10**12) == 1


def test_the_limit_names_a_lens_only_where_it_changes_it():
    assert "recorded_trajectories" not in LensConfig().model_dump()
    assert LensConfig(recorded_trajectories=100).model_dump()["recorded_trajectories"] == 100
