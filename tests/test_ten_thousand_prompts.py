"""An audit of many prompts keeps its report small by a stated rule, and its figures are those of each prompt alone."""

import io
import re

from PIL import Image

from audit.records.work import BASELINE
from audit.results.arm_rows import arm_rows
from audit.results.groups import prompt_results
from audit.results.summary import summarise
from audit.storage.run_directory import image_name
from benchmarks.ten_thousand_prompts import ATTRIBUTES, Measured, planned, write_run
from reports.figures.charts import MOST_SHOWN, listed
from reports.figures.pictures import Pictures
from reports.html import kept_pictures, render
from reports.index.story import story_of

PROMPTS = 3 * MOST_SHOWN


def test_many_prompts_are_measured_as_each_alone_and_the_report_shows_the_most_skewed(tmp_path):
    plan = planned(PROMPTS, images=6)
    run = write_run(tmp_path / plan.run_id, plan)
    result = summarise(run, plan)
    assert len(result.results) == PROMPTS * len(ATTRIBUTES) * len(plan.arms)
    prompt = plan.prompt_ids[7]
    table = run.read_results()
    single = table.filter([name == prompt for name in table["prompt_id"].to_pylist()])
    [alone] = prompt_results(arm_rows(single, BASELINE, ATTRIBUTES, {prompt: 6}), ATTRIBUTES[1], {})
    [found] = [r for r in result.results if (r.prompt_id, r.arm, r.attribute) == (prompt, BASELINE, "age")]
    assert (found.shares, found.corrected, found.measures) == (alone.shares, alone.corrected, alone.measures)
    assert found.fairness_discrepancy.squared == alone.fairness_discrepancy.squared
    text = render(result, Pictures({}, {}))
    assert f"the {MOST_SHOWN} most skewed at baseline of {PROMPTS} occupations; all are in results.csv" in text
    named = set(re.findall(r"occupation-\d{5}", text.replace(" ", "-")))
    assert len(named) < PROMPTS
    assert len(text) < 10_000_000


def test_only_pictures_of_prompts_that_the_report_names_are_read(tmp_path):
    plan = planned(PROMPTS, images=2)
    run = write_run(tmp_path / plan.run_id, plan)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "WEBP")
    run.write_images({image_name(prompt, 0, BASELINE): picture.getvalue() for prompt in plan.prompt_ids})
    result = summarise(run, plan)
    pictures = kept_pictures(run, result)
    assert tuple(dict.fromkeys(key.prompt_id for key in pictures.shown)) == listed(story_of(result))
    assert "every occupation in the charts above" in render(result, pictures)
    assert MOST_SHOWN <= len(pictures.shown) <= len(ATTRIBUTES) * MOST_SHOWN < PROMPTS + 1


def test_a_missed_limit_is_named_with_what_was_found():
    assert Measured(1.0, 0.5, 3.0, 2.0, 600).misses() == []
    assert Measured(61.0, 0.5, 30.0, 2.0, 600).misses() == ["summary: 61.0 s, limit 60", "report: 30.0 MB, limit 20"]
