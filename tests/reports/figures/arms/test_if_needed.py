"""Report and Markdown say of an arm that looks first how many images it changed, and what captions kept."""

from dataclasses import replace

from audit.records.quality import Measurement
from reports.export.markdown import to_markdown
from reports.figures.arms.if_needed import if_needed_notes
from reports.figures.pictures import Pictures
from reports.html import render
from reports.index.story import story_of

ARM = "difflens-gender"


def with_arm(result, **arm):
    quality = [
        replace(row, psnr=Measurement(20.0, 24, "metric:psnr") if row.arm == ARM else row.psnr)
        for row in result.quality
    ]
    mitigations = [{"name": ARM, "attribute": "gender", "method": "difflens", **arm}]
    return replace(result, quality=tuple(quality), config=result.config | {"mitigations": mitigations})


def test_every_output_says_how_many_images_were_changed_and_what_was_kept(result):
    found = with_arm(result, if_needed={"keep": "others", "blocks": [], "words": {}})
    [note] = if_needed_notes(story_of(found))
    assert f"“{ARM}” leaves images as they are that show their assigned group without it" in note
    assert " 24 of 1024 images differ from those of the baseline." in note
    assert note.endswith("name what the first image shows in age, skin tone.")
    assert note in render(found, Pictures({}, {}))
    assert note in to_markdown(found).replace("\\", "")


def test_nothing_is_kept_or_said_where_the_config_does_not_ask_for_it(result):
    assert if_needed_notes(story_of(with_arm(result))) == ()
    [note] = if_needed_notes(story_of(with_arm(result, if_needed={"keep": "none", "blocks": [], "words": {}})))
    assert note.endswith("differ from those of the baseline.")


def test_an_arm_without_a_changed_image_says_so(result):
    quality = tuple(replace(row, psnr=None) for row in result.quality)
    unchanged = replace(with_arm(result, if_needed={"keep": "none"}), quality=quality)
    assert " 0 of 1024 images differ" in if_needed_notes(story_of(unchanged))[0]
