"""Pictures on the page, in the CSV and as frames: names are escaped, and an axis without separation is named."""

from audit.records.inside.exploration import Exploration
from audit.records.inside.read_pictures import Near, PictureAxis, PictureScore, ReadPictures
from reports.exploration.frames import exploration_frames
from reports.exploration.page import render, warnings
from reports.exploration.pictures import SHOWN_AT_EACH_END, picture_figures, pictures_csv
from tests.reports.exploration.test_page import an_exploration

AWKWARD = "<b>é “'; & face</b>.png"


def given(names=(AWKWARD, "b.png"), area=(0.9, 0.8, 1.0)):
    return ReadPictures(
        step=12,
        images=24,
        axes=(PictureAxis("gender", *area),),
        scores=tuple(PictureScore(name, "gender", place / 9, -0.5, 0.5) for place, name in enumerate(names)),
        prompts={name: (Near("doctor", 0.4), Near("nurse", -0.4)) for name in names},
        descriptors=dict.fromkeys(names, ()),
        agreement=dict.fromkeys(names, 0.97),
    )


def test_the_page_shows_pictures_and_escapes_their_names():
    page = render(an_exploration(pictures=given()))
    assert "2 pictures, noised to the level of step 12" in page
    assert "doctor (0.4" in page
    assert "&lt;b&gt;é" in page
    assert AWKWARD not in page
    assert "noised to the level" not in render(an_exploration())


def test_an_axis_that_separates_nothing_is_named():
    assert not [text for text in warnings(an_exploration(pictures=given())) if "does not separate" in text]
    [text] = [text for text in warnings(an_exploration(pictures=given(area=(0.6, 0.4, 0.8)))) if "separate" in text]
    assert "0.60" in text


def test_many_pictures_leave_both_ends_in_the_chart_and_all_in_the_csv():
    names = [f"{number:03d}.png" for number in range(3 * SHOWN_AT_EACH_END)]
    pictures = given(names)
    [figure] = picture_figures(an_exploration(pictures=pictures), pictures)
    assert len(figure.table.rows) == 2 * SHOWN_AT_EACH_END
    assert len(pictures_csv(pictures).splitlines()) == 1 + len(names)


def test_frames_and_data_have_all_pictures():
    found = an_exploration(pictures=given())
    assert Exploration.of_data(found.as_data()) == found
    frames = exploration_frames(found)
    assert list(frames["pictures"]["picture"]) == [AWKWARD, "b.png"]
    assert list(frames["near_prompts"].loc[frames["near_prompts"]["picture"] == "b.png", "prompt"]) == [
        "doctor",
        "nurse",
    ]
    assert len(exploration_frames(an_exploration())["pictures"]) == 0
