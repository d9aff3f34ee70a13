"""A place is read from its written form and written back the same."""

import pytest

from audit.planning.plan import window_of
from audit.records.located.places import THIRDS, Place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("mid_block", Place("mid_block")),
        ("text:up_blocks.0", Place("up_blocks.0", "text")),
        ("skips:down_blocks.0@0.33-0.67", Place("down_blocks.0", "skips", (0.33, 0.67))),
        ("text-stream:transformer_blocks.3", Place("transformer_blocks.3", "text-stream")),
        ("text-mask:transformer_blocks.3", Place("transformer_blocks.3", "text-mask")),
        ("update:mid_block.attentions.0", Place("mid_block.attentions.0", "update")),
        ("input:mid_block.attentions.0", Place("mid_block.attentions.0", "input")),
        ("output:down_blocks.1@0-0.5", Place("down_blocks.1", "output", (0.0, 0.5))),
    ],
)
def test_a_written_place_is_read_and_written_back(text, place):
    assert Place.parse(text) == place
    assert str(place) == text


@pytest.mark.parametrize("text", ["", "text:", "words:mid_block", "mid block", "mid_block@", "mid_block@0.7-0.3",
                                  "mid_block@0-1.5", "mid_block@0.1.2-0.5", "result:mid_block"])  # fmt: skip
def test_what_is_not_a_place_is_refused_in_words(text):
    with pytest.raises(ValueError, match=r"expected a (place|window)"):
        Place.parse(text)


def test_a_whole_window_is_not_written():
    assert str(Place.parse("mid_block@0-1")) == "mid_block"
    assert Place.parse("text:a@0.5-1").at_all_steps == Place("a", "text")


@pytest.mark.parametrize("steps", [1, 2, 3, 20, 25, 50])
def test_the_thirds_cover_all_steps(steps):
    assert set().union(*(window_of(window, steps) for window in THIRDS)) == set(range(steps))
