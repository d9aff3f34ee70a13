"""An exploration is read back as it was written, and its frames hold every row."""

import json

import pytest

from reports.exploration.files import RESULT, write_files
from reports.exploration.frames import exploration_frames, read_exploration
from tests.reports.exploration.test_page import A_STRESS, AWKWARD, NAMES, an_exploration, an_open_set


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"similarities": None, "clusters": None, "checked": (), "moves": (), "names": ()},
        {"open_set": an_open_set(), "stress": A_STRESS},
    ],
)
def test_what_was_written_is_read_back(tmp_path, changes):
    found = an_exploration(**changes)
    write_files(found, tmp_path)
    assert read_exploration(str(tmp_path)) == found


def test_frames_have_a_row_for_each_figure():
    frames = exploration_frames(an_exploration())
    assert frames["scores"].set_index("prompt").loc["nurse", "text"] == "a photo of a nurse"
    assert frames["similarities"].loc[AWKWARD, "cold"] == pytest.approx(0.2)
    assert frames["clusters"]["prompt"].tolist() == list(NAMES)
    assert len(frames["checked"]) == 3
    assert frames["names"]["latent"].tolist() == [7, 9]
    assert frames["moves"]["differs"].tolist() == [False, True, False]
    assert frames["neutral"]["value"].tolist() == [0.1]
    assert frames["findings"].query("prompt == 'nurse'").empty
    assert frames["stress"].query("found").empty
    more = exploration_frames(an_exploration(open_set=an_open_set(), stress=A_STRESS))
    assert {name: len(more[name]) for name in ("findings", "words", "rare", "stress")} == {
        "findings": 2,
        "words": 1,
        "rare": 1,
        "stress": 2,
    }
    empty = exploration_frames(
        an_exploration(similarities=None, clusters=None, checked=(), scores=(), moves=(), names=())
    )
    assert all(len(empty[name]) == 0 for name in ("scores", "moves", "similarities", "clusters", "names", "checked"))


def test_something_else_is_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="run difflens-audit explore"):
        read_exploration(str(tmp_path))
    for text, message in [
        ("{", "expected an exploration"),
        ("[]", "expected an exploration"),
        ("{}", "expected format 1"),
        (json.dumps({"format_version": 1}), "found something else"),
        (json.dumps({"format_version": 1, "similarities": 3, "clusters": None}), "found something else"),
    ]:
        (tmp_path / RESULT).write_text(text)
        with pytest.raises(ValueError, match=message):
            read_exploration(str(tmp_path))
