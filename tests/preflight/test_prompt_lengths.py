"""A text that a model would not read to its end is refused with what would be cut; nothing is drawn from the rest."""

import re
import shutil
from itertools import product

import open_clip
import pytest
from transformers import CLIPTokenizer
from typer.testing import CliRunner

from audit.calibration.bundle import BUNDLED
from audit.config.sections import ModelConfig, QualityConfig, SamplingConfig
from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.dissect.settings import dissected_groups
from audit.generation.parts import load_parts
from audit.models.files.text_reader import TextReader, bundled_reader, clip_reader
from audit.models.files.tokens import reader_of_directory
from audit.models.files.untrusted_model import UnfitModelError
from audit.models.generator import load_generator
from audit.perception.embedders.clip import load_clip
from audit.planning.plan import name_groups, prompts_of
from audit.preflight.prompt_lengths import clip_texts, cut_texts, lens_texts, model_reader
from audit.preflight.readiness import check_prompts, check_ready
from audit.records.work import Prompt
from benchmarks.spoiled_models import edit
from ray_jobs.cli.commands import app

LONG = "a face photo, taken on a bright day in front of a white wall with a very soft light, of {a} {occupation}"


def audit(**sections):
    return AuditConfig.model_validate({"name": "audit", "quality": {"clip": "none"}} | sections)


def problems(config):
    return {".".join(map(str, problem.location)): problem.message for problem in check_prompts(config)}


def test_words_count_as_the_tokenizer_cuts_them():
    reader = TextReader("it", 5, lambda text: len(text.split()) + 2)
    assert reader.cut("a b c") == ""
    assert reader.cut("a b c d e") == "d e"
    assert reader.refusal("a b c d") == (
        "expected at most 5 tokens, which is all that it reads, found 6 in 'a b c d': 'd' would be cut; shorten it"
    )
    assert TextReader("it", 2, lambda text: len(text.split()) + 2).cut("a b") == "a b"


def test_a_template_that_loses_its_occupation_is_refused_once():
    found = problems(audit(prompts={"template": LONG}))
    assert list(found) == ["prompts.template"]
    assert re.search(
        r"expected at most 20 tokens, which is all that the model's text encoder reads, found \d+",
        found["prompts.template"],
    )
    assert "of a doctor' would be cut; shorten it; 15 more texts would be cut too" in found["prompts.template"]


def test_one_occupation_that_is_too_long_is_refused_at_its_place(tiny_pipeline):
    occupations = [
        "doctor",
        "assistant to the second deputy of the regional office for the inspection of lifts",
        "nurse",
    ]
    found = problems(audit(model={"source": str(tiny_pipeline)}, prompts={"occupations": occupations}))
    assert list(found) == ["prompts.occupations.1"]
    assert "would be cut" in found["prompts.occupations.1"]


@pytest.mark.parametrize("limit", [10, 14, 20])
def test_a_prompt_of_just_the_limit_is_read_whole_and_of_one_token_more_is_not(tiny_pipeline, tmp_path, limit):
    model = shutil.copytree(tiny_pipeline, tmp_path / "model")
    edit(model / "tokenizer/tokenizer_config.json", model_max_length=limit)
    reader = reader_of_directory(model, 77)
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    exact = " ".join(["a"] * (limit - 2))
    assert (reader.limit, reader.count(exact), reader.cut(exact)) == (limit, limit, "")
    ids = [
        tokenizer(text, truncation=True, max_length=limit).input_ids
        for text in (exact, exact + " nurse", exact + " doctor")
    ]
    assert ids[1] == ids[2]  # the occupation is what is lost
    assert reader.cut(exact + " nurse") == "nurse"


def test_the_light_reader_of_the_bundled_tokenizer_counts_as_the_loaded_one_does():
    light, loaded = bundled_reader(BUNDLED / "pipeline" / "tokenizer"), reader_of_directory(BUNDLED / "pipeline", 77)
    texts = ["a face photo of a doctor", "An  OLD, “tan skinned” nurse — 42!", "", "x" * 300, LONG, "naïve élève 東京"]
    assert light.limit == loaded.limit == 20
    assert [light.count(text) for text in texts] == [loaded.count(text) for text in texts]


def test_a_lens_is_not_made_of_prompts_that_lose_their_occupation():
    template = "a face photo " + "photo " * 10 + "of {a} {occupation}"
    plain = audit(prompts={"template": template})
    assert problems(plain) == {}
    steered = plain.model_copy(update={"mitigations": (_mitigation(),)})
    found = problems(steered)
    assert list(found) == ["lens.attributes"]
    assert "skinned" in found["lens.attributes"]


def _mitigation():
    return audit(mitigations=[{"name": "m", "attribute": "age"}]).mitigations[0]


def test_the_longest_text_of_a_lens_is_the_longest_that_it_can_draw():
    config = audit(mitigations=[{"name": "m", "attribute": "age"}])
    reader = model_reader(config.model)
    prompts = prompts_of(audit(prompts={"occupations": ["nurse"]}).prompts, ())
    groups = dissected_groups(config.lens, config.attributes)
    every = [
        name_groups(config.prompts.template, prompts[0], dict(zip(groups, names, strict=True)))
        for names in product(*groups.values())
    ]
    [longest] = lens_texts(config.prompts.template, groups, prompts, reader)
    assert reader.count(longest) == max(map(reader.count, every))


def test_clip_is_asked_no_text_that_it_cuts(tiny_pipeline):
    config = audit(
        model={"source": str(tiny_pipeline)},
        prompts={"occupations": ["doctor"]},
        quality={"clip": str(BUNDLED / "clip")},
    )
    assert problems(config) == {}
    groups = {"hair": ["long", "extraordinarily long and braided"]}
    asked = audit(
        model={"source": "rendered"}, quality={"clip": "bundled"}, attributes=groups,
        second_opinions=[{"name": "clip"}], judge={"source": "judge.pt"}, lens={"attributes": ["hair"]},
    )  # fmt: skip
    found = problems(asked)
    assert list(found) == ["quality.clip"]
    assert "all that the CLIP model reads" in found["quality.clip"]
    rendered = audit(model={"source": "rendered"}, quality={"clip": "bundled"}, prompts={"template": LONG})
    assert list(problems(rendered)) == ["quality.clip"]
    assert problems(audit(model={"source": "rendered"}, prompts={"template": LONG})) == {}


def test_a_published_clip_reads_77_tokens():
    reader = clip_reader(open_clip.get_tokenizer("ViT-B-32"))
    assert reader.limit == 77
    tokens = open_clip.get_tokenizer("ViT-B-32")
    for words in (75, 76):
        text = " ".join(["photo"] * words)
        assert (reader.count(text) <= 77) == (int((tokens([text]) != 0).sum()) == words + 2)
    config = audit(
        model={"source": "rendered"}, prompts={"template": "photo " * 75 + "{occupation}", "occupations": ["doctor"]},
        quality={"clip": "ViT-B-32:laion2b_s34b_b79k"},
    )  # fmt: skip
    assert "expected at most 77 tokens" in problems(config)["quality.clip"]


def test_validate_plan_and_whoever_loads_refuse_alike(tiny_pipeline):
    config = audit(model={"source": str(tiny_pipeline)}, prompts={"template": LONG, "occupations": ["doctor", "nurse"]})
    assert "prompts.template" in {".".join(map(str, problem.location)) for problem in check_ready(config)}
    with pytest.raises(UnfitModelError, match="would be cut"):
        load_parts(MeasurementRequest.of(config), None)
    for command in ("plan", "validate"):
        done = CliRunner().invoke(app, [command, str(_written(tiny_pipeline))])
        assert done.exit_code == 2, done.output
        assert "prompts.template: expected at most 20 tokens" in done.output


def _written(pipeline):
    path = pipeline.parent / "long.yaml"
    path.write_text(
        f"name: long\nmodel: {{source: {pipeline}}}\nprompts:\n  template: '{LONG}'\n  occupations: [doctor, nurse]\n"
        "judge: {source: judge.pt}\nquality: {clip: none, features: none}\n"
    )
    return path


def test_a_generator_and_clip_draw_and_measure_nothing_of_a_text_that_they_cut(tiny_pipeline):
    generator = load_generator(ModelConfig(source=str(tiny_pipeline)), SamplingConfig(steps=2))
    with pytest.raises(UnfitModelError, match="of a doctor' would be cut"):
        generator.sample([LONG.format(a="a", occupation="doctor")], [1])
    clip = load_clip(QualityConfig(), ModelConfig())
    with pytest.raises(UnfitModelError, match="all that the CLIP model reads"):
        clip.text(LONG.format(a="a", occupation="doctor"))


def test_a_tokenizer_elsewhere_is_looked_at_there():
    config = audit(model={"source": "owner/name"}, prompts={"template": LONG, "occupations": ["doctor"]})
    assert list(cut_texts(MeasurementRequest.of(config), {}, ())) == []
    assert problems(config) == {}


def test_a_method_that_is_trained_with_clip_embeds_texts_that_name_groups():
    prompts = (Prompt("doctor", "a face photo of a doctor", "doctor"),)

    def texts(method):
        mitigation = {"name": "m", "method": method, "attribute": "gender"}
        return set(clip_texts(MeasurementRequest.of(AuditConfig(name="a", mitigations=[mitigation])), prompts))

    named = {"a face photo of a female doctor", "a face photo of a male doctor"}
    assert named <= texts("latent_editing")
    assert not named & texts("latent_direction")
