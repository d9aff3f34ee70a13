"""Concepts over time on a tiny random pipeline, without Ray: recording, dictionaries, figures, edits and page."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from audit.analyses.analysis import Instruments
from audit.analyses.concepts import dictionaries, recorded
from audit.analyses.concepts.dictionaries import ConceptDictionaries, DictionariesRequest
from audit.analyses.concepts.recorded import ConceptRecording, RecordingRequest, recorded_steps
from audit.analyses.concepts.stored_recording import STAGES, StoredRecording, stage_window
from audit.analyses.stages import concepts as stage_module
from audit.analyses.stages import trials
from audit.analyses.stages.request import ALL_STEPS, Arm, AskedGroup, AskedStyle, TrialsRequest
from audit.analyses.stages.trials import StageTrials, quadrant_of
from audit.config.optional.concepts import ConceptsConfig
from audit.config.optional.segmenters import SegmenterConfig
from audit.config.sections import ModelConfig, QualityConfig, SamplingConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.perception.judges.perceived import Perceived
from audit.records.estimates import Estimate
from audit.records.inside.concepts import Concepts, StageFigures, Stages
from audit.records.work import Prompt, Status, derive_seed
from audit.results.concepts import by_stage
from audit.results.concepts.by_stage import ALL, chosen_strengths, stage_figures
from audit.results.concepts.over_time import OverTime
from audit.results.concepts.pictures import pictures_of
from ray_jobs.run.inside.concepts import blocks_of, too_few_steps, unrecognised_styles
from reports.concepts.files import concept_frames, read_concepts, write_files
from reports.concepts.page import lead, stage_findings

PARTS = ("dark", "light")
BLOCKS = ("mid_block.attentions.0",)
PROMPTS = (Prompt("doctor", "a photo of a doctor", "doctor"), Prompt("nurse", "a photo of a nurse", "nurse"))
HALVES = ("conditional", "unconditional")


class Brightness:
    """Calls pixels dark or light."""

    parts = PARTS

    def labels(self, images):
        return (images.float().mean(1) > 128).to(torch.uint8)


class Judge:
    """Sees the group of a picture in its first pixel."""

    signature = "pixel"

    def perceive(self, images, occupation):
        high = (images[:, 0, 0, 0] > 128).float().numpy()
        return Perceived({"tone": np.stack([1 - high, high], 1)}, [Status.CLASSIFIED] * len(images), None)


@pytest.fixture(scope="module", autouse=True)
def segmenter():
    with pytest.MonkeyPatch.context() as patch:
        for module in (recorded, dictionaries, stage_module, trials):
            patch.setattr(module, "loaded_segmenter", lambda _segmenter, _model: Brightness())
        yield


@pytest.fixture(scope="module")
def instruments(tiny_pipeline):
    sampling = SamplingConfig(steps=6, guidance=2.0, scheduler="DDIMScheduler")
    return Instruments(load_generator(ModelConfig(source=str(tiny_pipeline)), sampling), Judge())


@pytest.fixture(scope="module")
def recording_request():
    return RecordingRequest(ModelConfig(), SegmenterConfig(), "brightness", BLOCKS, HALVES, 6, PROMPTS, 12, 8, seed=0)


@pytest.fixture(scope="module")
def recording(instruments, recording_request, tmp_path_factory):
    analysis, directory = ConceptRecording(), tmp_path_factory.mktemp("recording")
    tasks = analysis.tasks(recording_request)
    for task in tasks:
        save_file(analysis.part(instruments, recording_request, task), directory / f"{task.id}.safetensors")
    keys = [(PROMPTS.index(task.prompt), task.first + i) for task in tasks for i in range(task.count)]
    return StoredRecording(
        str(directory), tuple(f"{task.id}.safetensors" for task in tasks), *(tuple(x) for x in zip(*keys, strict=True))
    )


@pytest.fixture(scope="module")
def request_of_dictionaries(recording):
    return DictionariesRequest(
        recording, "recording", ModelConfig(), SegmenterConfig(), BLOCKS, HALVES, 4, 2, 5, named_above=0.5, seed=0
    )


@pytest.fixture(scope="module")
def parts(instruments, request_of_dictionaries, tmp_path_factory):
    """Directory of the parts of all dictionaries."""
    analysis, directory = ConceptDictionaries(), tmp_path_factory.mktemp("dictionaries")
    for task in analysis.tasks(request_of_dictionaries):
        part = analysis.part(instruments, request_of_dictionaries, task)
        save_file({k: np.ascontiguousarray(v) for k, v in part.items()}, directory / f"{task.id}.safetensors")
    return directory


@pytest.fixture(scope="module")
def over_time(request_of_dictionaries, parts):
    from safetensors.numpy import load_file

    analysis = ConceptDictionaries()
    stored = (load_file(parts / f"{task.id}.safetensors") for task in analysis.tasks(request_of_dictionaries))
    return OverTime(BLOCKS, PARTS).add_all(analysis.combine(request_of_dictionaries, stored))


def trials_request(parts, **changes):
    arms = tuple(
        Arm(kind, concept, stage, strength)
        for strength in (1.0, 30.0)
        for kind, concept in (("spatial", "dark"), ("global", "tone: low"), ("global", "tone: high"))
        for stage in STAGES
    )
    groups = {"tone: low": AskedGroup("tone", 0, "cold"), "tone: high": AskedGroup("tone", 1, "warm")}
    plain = {
        "role": "calibration", "dictionaries": str(parts), "dictionaries_name": "d", "block": (0, BLOCKS[0]),
        "model": ModelConfig(), "segmenter": SegmenterConfig(), "arms": arms, "asked": groups,
        "quality": QualityConfig(clip="none", features="none"), "quality_name": "none",
        "template": "a photo of {a} {occupation}", "neutral": "person", "prompts": PROMPTS, "images": 4, "batch": 8,
        "features": 4, "seed": 0,
    }  # fmt: skip
    return TrialsRequest(**plain | changes)


def test_another_seed_draws_other_images_under_another_name_and_seed_0_those_of_older_studies(
    instruments, recording_request, request_of_dictionaries, parts
):
    analysis, other = ConceptRecording(), replace(recording_request, seed=7)
    [task, *_] = analysis.tasks(recording_request)
    own, changed = (analysis.part(instruments, request, task) for request in (recording_request, other))
    assert not np.array_equal(own["pictures"], changed["pictures"])
    assert np.array_equal(changed["pictures"], analysis.part(instruments, other, task)["pictures"])
    assert task.seeds(0) == [derive_seed("concepts", task.prompt.id, index) for index in range(task.count)]
    requests = (recording_request, request_of_dictionaries, trials_request(parts))
    for request in requests:
        assert "seed" not in request.as_data()
        assert replace(request, seed=7).as_data() == request.as_data() | {"seed": 7}


def test_another_seed_trains_and_tries_anew(instruments, request_of_dictionaries, parts):
    analysis, other = ConceptDictionaries(), replace(request_of_dictionaries, seed=7)
    task = next(task for task in analysis.tasks(other) if task.block >= 0)
    decoders = [analysis.part(instruments, request, task)["decoder"] for request in (request_of_dictionaries, other)]
    assert not np.array_equal(*decoders)
    requests = [trials_request(parts, images=1, seed=seed) for seed in (0, 7)]
    tried = [StageTrials().part(instruments, request, StageTrials().tasks(request)[0]) for request in requests]
    assert any(not np.array_equal(tried[0][name], tried[1][name]) for name in tried[0])


@pytest.mark.parametrize(("count", "steps", "found"), [(3, 25, (0, 12, 24)), (9, 4, (0, 1, 2, 3)), (2, 1, (0,))])
def test_recorded_steps_include_the_first_and_the_last(count, steps, found):
    assert recorded_steps(count, steps) == found


def test_a_recording_does_not_depend_on_who_makes_it(instruments, recording_request, recording):
    analysis = ConceptRecording()
    task = analysis.tasks(recording_request)[1]
    again = analysis.part(instruments, recording_request, task)
    stored = replace(recording, files=(f"{task.id}.safetensors",))
    assert again["conditional/0"].shape == (4, 6, *again["conditional/0"].shape[2:])
    for name, array in again.items():
        assert np.array_equal(stored.array(name) if name != "steps" else stored.steps(), array), name
    assert not np.array_equal(again["conditional/0"], again["unconditional/0"])


def test_images_have_one_role_each(recording):
    rows = {role: set(recording.rows(role).tolist()) for role in ("fit", "tune", "test")}
    assert [len(of) for of in rows.values()] == [12, 4, 8]
    assert set.union(*rows.values()) == set(range(24))


def test_a_window_without_a_recorded_step_is_refused(recording):
    with pytest.raises(ValueError, match=r"expected a recorded step in the final window.*raise concepts.steps"):
        recording.steps_in("final", 100)


def test_every_reader_has_figures_at_every_recorded_step(over_time):
    assert over_time.steps == (0, 1, 2, 3, 4, 5)
    steps = {}
    for one in over_time.layout:
        steps.setdefault((one.reader, one.half), []).append(one.step)
    of_updates = {(reader, half) for reader in ("concepts", "placed", "probe") for half in HALVES}
    assert set(steps) == of_updates | {("prior", ""), ("prompt", ""), ("forecast", "")}
    assert all(steps[key] == [0, 1, 2, 3, 4, 5] for key in of_updates | {("forecast", "")})
    last = [one for one in over_time.layout if one.reader == "forecast"][-1]
    assert last.mean.value > 0.9  # the last step predicts the picture itself
    assert last.over_prior.low > 0
    assert last.over_forecast is None
    probe = over_time.layout[-1]
    assert probe.over_forecast.value == pytest.approx(probe.mean.value - last.mean.value)


def test_dictionaries_have_measures_for_each_half_and_window(over_time):
    assert [(one.half, one.stage) for one in over_time.dictionaries] == [(h, s) for h in HALVES for s in STAGES]
    assert [step for one in over_time.dictionaries[:3] for step in one.explained] == [0, 1, 2, 3, 4, 5]
    assert all(one.with_last[5] in (None, pytest.approx(1)) for one in over_time.followed())


@pytest.fixture(scope="module")
def tried(instruments, parts):
    request, analysis = trials_request(parts), StageTrials()
    return analysis.combine(request, [analysis.part(instruments, request, task) for task in analysis.tasks(request)])


def test_edits_are_measured_for_every_arm(tried):
    assert len(tried) == 18
    for arm, measured in tried.items():
        assert measured["success"].shape == (8,)
        assert set(measured["success"].tolist()) <= ({0, 1} if arm.kind == "spatial" else {-1, 0, 1})
        assert np.isnan(measured["clip"]).all()
    low = next(measured for arm, measured in tried.items() if arm.concept == "tone: low")
    high = next(measured for arm, measured in tried.items() if arm.concept == "tone: high")
    # An image shows one of both groups before, and is not counted for that one.
    assert ((low["success"] == -1) ^ (high["success"] == -1)).all()


@pytest.fixture(scope="module")
def styled(instruments, parts):
    """A style by an edit and by the prompt, recognised by the bundled CLIP."""
    arms = (Arm("style", "style: dark", "early", 30.0), Arm("style text", "style: dark", ALL_STEPS, 1.0))
    quality = QualityConfig(features="none")
    request = trials_request(parts, arms=arms, asked={"style: dark": AskedStyle("dark")}, quality=quality)
    analysis = StageTrials()
    return analysis.combine(request, [analysis.part(instruments, request, task) for task in analysis.tasks(request)])


def test_a_style_is_counted_in_pictures_that_did_not_show_it(styled):
    edit, text = styled.values()
    assert ((edit["success"] == -1) == (text["success"] == -1)).all()  # of the unedited pictures, the same for both
    for arm in (edit, text):
        assert np.isfinite(arm["clip"]).all()
        assert arm["similarity"].min() < 0.999  # pictures changed


def test_a_style_is_shown_by_a_picture_that_is_nearer_to_its_text():
    meter = object.__new__(trials._Meter)
    meter._task = trials.TrialTask(0, tuple((prompt, 0) for prompt in PROMPTS))
    meter._request = replace(trials_request("none"), asked={"style: oil": AskedStyle("oil")})
    meter._text_vectors = lambda texts: np.stack([np.eye(2, dtype=np.float32)[int(", oil" in text)] for text in texts])
    own, styled = np.array([0.9, 0.1], np.float32), np.array([0.2, 0.8], np.float32)
    meter._embedded = np.stack([own, styled])
    arm = Arm("style", "style: oil", "early", 1.0)
    assert meter._changed(arm, None, np.stack([styled, styled])).tolist() == [1, trials.NOT_COUNTED]
    assert meter._changed(arm, None, np.stack([own, own])).tolist() == [0, trials.NOT_COUNTED]


def test_a_prompt_names_what_an_edit_asks_for(parts):
    request = trials_request(parts, asked={"style: oil": AskedStyle("oil"), "tone: low": AskedGroup("tone", 0, "cold")})
    texts = [one.text(request.template, PROMPTS[0]) for one in request.asked.values()]
    assert texts == [f"{PROMPTS[0].text}, oil", f"a photo of a cold {PROMPTS[0].occupation}"]
    assert request.as_data()["styles"] == ["style: oil"]
    assert "styles" not in trials_request(parts).as_data()


def test_every_part_has_its_gain_over_the_mean_mask(over_time):
    for one in over_time.layout:
        if one.reader == "prior":
            assert one.parts_over_prior == {}
            continue
        prior = over_time.layout[0]
        assert set(one.parts_over_prior) == set(PARTS)
        for part, gain in one.parts_over_prior.items():
            if gain is not None:
                assert gain.value == pytest.approx(one.parts[part].value - prior.parts[part].value)


def test_the_strength_that_succeeds_most_often_is_chosen():
    arms = {beta: Arm("spatial", "dark", "early", beta) for beta in (1.0, 2.0, 4.0)}
    success = {1.0: [0, 0, 1, 0], 2.0: [1, 1, 0, 1], 4.0: [1, 1, 1, 1]}
    similar = {1.0: 0.9, 2.0: 0.8, 4.0: 0.3}
    tried = {
        arm: {"success": np.array(success[beta]), "similarity": np.full(4, similar[beta])} for beta, arm in arms.items()
    }
    assert chosen_strengths(tried, 0.7) == {("spatial", "early"): 2.0}
    assert chosen_strengths(tried, 0.0) == {("spatial", "early"): 4.0}
    assert chosen_strengths(tried, 0.99) == {("spatial", "early"): 1.0}  # none is similar enough: the most similar one


def test_quadrants_take_turns():
    assert [quadrant_of(0, index) for index in range(5)] == [0, 1, 2, 3, 0]
    assert sorted(quadrant_of(prompt, 0) for prompt in range(4)) == [0, 1, 2, 3]


def test_a_result_is_written_read_and_shown(over_time, tried, styled, tmp_path):
    figures = stage_figures({arm: measured for arm, measured in {**tried, **styled}.items() if arm.strength != 1})
    assert {one.concept for one in figures} >= {"dark", ALL}
    found = Concepts(
        name="tiny", model="sha256:0", segmenter="brightness", parts=PARTS, blocks=BLOCKS, steps=over_time.steps,
        total_steps=6, prompts=2, images=24, measured=8, dictionaries=tuple(over_time.dictionaries),
        layout=tuple(over_time.layout), followed=over_time.followed(),
        pictures=pictures_of(over_time.reference, over_time.shown),
        stages=Stages(BLOCKS[0], figures, "none", 8, (1.0, 30.0), ("style: oil",)),
        seed=0,
    )  # fmt: skip
    page = write_files(found, tmp_path / "found")
    assert read_concepts(str(tmp_path / "found")) == found
    html = page.read_text()
    assert "Edits by window" in html
    assert "Published" in html
    assert html.count("<svg") >= 1
    assert "seed" not in found.as_data()
    seeded = replace(found, seed=7)
    assert Concepts.of_data(json.loads(json.dumps(seeded.as_data()))) == seeded
    assert ("with seed 7" in lead(seeded), "seed" in lead(found)) == (True, False)
    frames = concept_frames(found)
    assert set(frames["layout"].query("reader == 'prior'")["part"]) == {"mean", *PARTS}
    assert len(frames["stages"])
    without = replace(found, stages=None)
    assert concept_frames(without)["stages"].query("kind == 'spatial'").empty
    assert '<th scope="col">none</th>' not in html
    assert "Edits by window" not in write_files(without, tmp_path / "without").read_text()
    (tmp_path / "found" / "concepts.json").write_text(json.dumps({"format_version": 1}))
    with pytest.raises(ValueError, match="delete it and run difflens-audit concepts"):
        read_concepts(str(tmp_path / "found"))
    with pytest.raises(FileNotFoundError, match="run difflens-audit concepts"):
        read_concepts(str(tmp_path / "none"))


def test_blocks_are_those_of_the_paper_unless_named():
    from audit.analyses.concepts.blocks import check_blocks, default_blocks

    stable_diffusion = [
        *(f"down_blocks.{block}.attentions.{layer}" for block in range(3) for layer in range(2)),
        "mid_block.attentions.0",
        *(f"up_blocks.{block}.attentions.{layer}" for block in (1, 2, 3) for layer in range(3)),
        "mid_block.attentions.0.norm",
    ]
    expected = ("down_blocks.2.attentions.1", "mid_block.attentions.0", "up_blocks.1.attentions.0")
    assert default_blocks(stable_diffusion) == expected
    with pytest.raises(UnfitModelError, match="expected a U-Net with attentions"):
        default_blocks(["transformer_blocks.0"])
    with pytest.raises(UnfitModelError, match="found tokens of 'transformer_blocks"):
        check_blocks(["transformer_blocks.0"], {"transformer_blocks.0": (32, 64, 1)})
    with pytest.raises(UnfitModelError, match="expected a module that returns a map, found 'mid'"):
        check_blocks(["mid"], {})


def test_an_edited_block_is_recorded_too():
    shapes = {"mid_block.attentions.0": (8, 4, 4), "up_blocks.0.attentions.1": (8, 4, 4)}
    section = ConceptsConfig(blocks=("mid_block.attentions.0",), stages={"block": "up_blocks.0.attentions.1"})
    assert blocks_of(section, shapes) == tuple(shapes)


@pytest.mark.parametrize(
    ("maps", "picture", "sides"),
    [
        ([(8, 8), (4, 4), (16, 16)], (512, 512), (64, 64)),
        ([(24, 24), (12, 12)], (768, 768), (48, 48)),  # Stable Diffusion 2.1
        ([(96, 64)], (768, 512), (96, 64)),
        ([(4, 4)], (32, 48), (32, 48)),
    ],
)
def test_masks_are_multiples_of_all_maps(maps, picture, sides):
    assert recorded.mask_sides(maps, picture) == sides


def test_maps_without_a_common_multiple_are_refused():
    with pytest.raises(UnfitModelError, match=r"within 600 × 600 pixels, found 19 × 19, 75 × 75"):
        recorded.mask_sides([(75, 75), (19, 19)], (600, 600))


def test_windows_share_no_step_and_have_one_each_from_five_steps_on():
    for steps in range(5, 200):
        windows = [stage_window(stage, steps) for stage in STAGES]
        assert [step for window in windows for step in window] == list(range(steps))
        assert all(windows)
    assert [len(stage_window(stage, 25)) for stage in STAGES] == [10, 10, 5]


def test_an_attribute_with_the_name_of_styles_is_refused_beside_them():
    section, quality = ConceptsConfig(stages={"styles": ("cartoon",)}), QualityConfig()
    assert unrecognised_styles(section, {"gender": ("female", "male")}, quality) is None
    message = unrecognised_styles(section, {"style": ("cartoon", "photo")}, quality)
    assert "expected no attribute with the name 'style' beside styles" in message
    assert "expected CLIP" in unrecognised_styles(section, {}, QualityConfig(clip="none"))


@pytest.mark.parametrize(
    ("recorded_steps", "total", "message"),
    [(9, 4, "sampling.steps: expected at least 5"), (2, 25, "found none in middle with 2 of 25"), (3, 25, None)],
)
def test_too_few_steps_are_refused_before_anything_is_sampled(recorded_steps, total, message):
    found = too_few_steps(ConceptsConfig(steps=recorded_steps), total)
    assert found is None if message is None else message in found


def test_a_dictionary_smaller_than_its_active_latents_is_refused():
    with pytest.raises(UnfitModelError, match=r"concepts\.k: expected at most 8 active latents"):
        blocks_of(ConceptsConfig(blocks=BLOCKS, expansion=1, k=10), {BLOCKS[0]: (8, 4, 4)})


def test_the_order_of_prompts_and_the_weights_of_networks_belong_to_a_name(recording_request, parts):
    turned = replace(recording_request, prompts=PROMPTS[::-1])
    names = {json.dumps(one.as_data(), sort_keys=True) for one in (recording_request, turned)}
    trials_ = trials_request(parts)
    changed = (trials_, replace(trials_, prompts=PROMPTS[::-1]), replace(trials_, quality_name="other"))
    names |= {json.dumps(one.as_data(), sort_keys=True) for one in changed}
    assert len(names) == 5
    assert Arm("spatial", "hair", "early", 1.0000001).id != Arm("spatial", "hair", "early", 1.0).id


def test_pictures_that_show_no_part_are_refused_in_words(recording, monkeypatch):
    monkeypatch.setattr(StoredRecording, "array", lambda *_: np.full((24, 8, 8), 255, np.uint8))
    with pytest.raises(UnfitModelError, match=r"found none in 8; lower concepts\.segmenter\.threshold"):
        dictionaries.reference(recording, 2)


def test_a_concept_without_a_latent_is_named(instruments, parts, monkeypatch):
    load = stage_module.load_dictionary
    without = lambda *of: replace(found := load(*of), iou=torch.zeros_like(found.iou))  # noqa: E731
    monkeypatch.setattr(stage_module, "load_dictionary", without)
    with pytest.raises(UnfitModelError, match=r"expected a latent of the early window for 'dark', found none"):
        stage_module.stage_concepts(instruments.generator, trials_request(parts, features=3))


def test_other_groups_are_other_concepts_on_the_same_worker(instruments, parts):
    first = stage_module.stage_concepts(instruments.generator, trials_request(parts))
    groups = {"tone: low": AskedGroup("tone", 0, "blue"), "tone: high": AskedGroup("tone", 1, "red")}
    assert stage_module.stage_concepts(instruments.generator, trials_request(parts, asked=groups)) is not first


def test_another_seed_makes_other_concepts_on_the_same_worker(instruments, parts):
    """The concepts are kept between calls; those of another seed come from other noise."""
    own, other, again = (
        stage_module.stage_concepts(instruments.generator, trials_request(parts, seed=seed)).vectors
        for seed in (0, 7, 0)
    )
    asked = [("tone: low", stage) for stage in STAGES]
    assert all(torch.equal(own[key].direction, again[key].direction) for key in asked)
    assert any(not torch.equal(own[key].direction, other[key].direction) for key in asked)


def test_success_of_no_image_or_of_all_has_an_interval():
    none = by_stage._over_images([np.zeros(18, int)] * 5)
    assert (none.value, none.low, none.n) == (0, 0, 18)
    assert 0.1 < none.high < 0.3
    assert by_stage._over_images([np.ones(18, int)] * 5).low < 0.9
    single = by_stage._over_images([np.array([1]), np.array([1]), np.array([0])])
    assert (single.value, single.low, single.high) == (pytest.approx(2 / 3), 0, 1)


@pytest.mark.parametrize(("half_width", "by_chance"), [(0.05, False), (0.3, True)])
def test_an_order_of_windows_with_overlapping_intervals_may_be_due_to_chance(half_width, by_chance):
    figures = tuple(
        StageFigures("spatial", ALL, stage, 1.0, Estimate(at, at - half_width, at + half_width, 20), None, None, None)
        for stage, at in (("early", 0.8), ("middle", 0.5), ("final", 0.3))
    )
    [sentence] = stage_findings(Stages(BLOCKS[0], figures, "none", 20, (1.0,)))
    assert "The order agrees with the published one" in sentence
    assert ("intervals overlap" in sentence) == by_chance


def test_groups_stand_beside_the_prompt_that_names_them_and_beside_no_published_figure():
    arms = [("global", stage, at) for stage, at in (("early", 0.3), ("middle", 0.2), ("final", 0.1))]
    figures = tuple(
        StageFigures(kind, ALL, stage, 1.0, Estimate(at, at - 0.05, at + 0.05, 20), None, None, None)
        for kind, stage, at in (*arms, ("group text", ALL_STEPS, 0.9))
    )
    [sentence] = stage_findings(Stages(BLOCKS[0], figures, "none", 20, (1.0,)))
    assert "Named in the prompt: 0.900 [0.850, 0.950]" in sentence
    assert "ublished" not in sentence
    shown = Stages(BLOCKS[0], figures, "none", 20, (1.0,), ("style: oil",))
    assert list(stage_findings(shown))[1].startswith("Every picture showed “style: oil” before any edit")


def test_half_a_file_is_named_with_what_to_do(recording, tmp_path):
    whole = Path(recording.directory) / recording.files[0]
    (tmp_path / "half.safetensors").write_bytes(whole.read_bytes()[:200])
    half = StoredRecording(str(tmp_path), ("half.safetensors",), (0,), (0,))
    with pytest.raises(ValueError, match=r"half\.safetensors: expected the arrays parts, .* delete it and run"):
        half.array("parts")
    lacking = replace(recording, files=recording.files[:1])
    with pytest.raises(ValueError, match="expected the arrays masks"):
        lacking.array("masks")
