"""The page of an exploration: every text is escaped, and what is missing is said."""

import csv
import io
from dataclasses import replace

import pytest

from audit.records.inside.exploration import (
    Axis,
    Checked,
    Clusters,
    Exploration,
    FeatureName,
    Move,
    Score,
    Similarities,
)
from audit.records.inside.open_set import Finding, OpenSet, Rare, Strip, WordFinding
from audit.records.inside.stress import Condition, Shift, Stress, StressFigure
from reports.exploration.charts import SHOWN_AT_EACH_END, score_figures, strongest_descriptors
from reports.exploration.files import findings_csv, scores_csv, similarities_csv
from reports.exploration.page import render, warnings
from reports.exploration.stress import stress_csv

AWKWARD = "<b>é“'; & nurse,\x07</b>"
NAMES = ("doctor", "nurse", AWKWARD)


def score(prompt, value, axis="gender"):
    return Score(prompt, axis, value, value - 0.1, value + 0.1, value, 0.01, True, 2 * value)


def an_exploration(prompts=NAMES, **changes):
    found = Exploration(
        name=AWKWARD,
        model="sha256:0",
        hookpoint="up_blocks.0",
        step=0,
        seeds=16,
        width=8192,
        neutral="a photo of a person",
        texts={name: f"a photo of a {name}" for name in prompts},
        axes=(Axis("gender", "a female person", "a male person"),),
        neutral_scores=(score("", 0.1),),
        scores=tuple(score(name, place / len(prompts)) for place, name in enumerate(prompts)),
        moves=tuple(Move(name, AWKWARD, "gender", 0.1, 0.0, 0.2, 0.01, name == "nurse") for name in prompts),
        similarities=Similarities(
            ("cold", AWKWARD),
            {name: (place / 10, 0.5 - place / 10) for place, name in enumerate(prompts)},
            dict.fromkeys(prompts, 0.99),
        ),
        clusters=Clusters(
            order=NAMES,
            members={"doctor": 1, "nurse": 1, AWKWARD: 2},
            heights=((0, 1, 0.3, 2), (2, 3, 0.8, 3)),
            stability=0.9,
            places={"doctor": (0.0, 0.0), "nurse": (0.001, 0.0), AWKWARD: (1.0, 1.0)},
            kept=0.6,
        )
        if prompts is NAMES
        else None,
        names=(FeatureName("gender", "female", 7, AWKWARD, 0.91), FeatureName("gender", "male", 9, "pilot", 0.6)),
        checked=(Checked("gender", NAMES, 24, 70, dict.fromkeys(NAMES, 0.5), 0.9, 0.6, 1.0, 0.5),),
    )
    return replace(found, **changes)


def test_texts_are_escaped_and_the_page_needs_nothing_from_outside():
    page = render(an_exploration())
    assert AWKWARD not in page
    assert "&lt;b&gt;é" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "adjusted Rand index of 0.90" in page
    assert "70 of 72" in page
    assert "1 of 2 hold at other noise" in page
    assert "(pilot)" in page


def test_a_page_without_descriptors_clusters_and_check_says_what_is_missing():
    page = render(an_exploration(similarities=None, clusters=None, checked=(), moves=(), names=()))
    assert "Scores were not compared with images" in page
    assert '<h2 id="names"' not in page
    assert '<h2 id="moves"' not in page
    assert '<h2 id="clusters"' not in page
    assert '<h2 id="descriptors"' not in page


def test_scores_that_do_not_predict_are_a_warning():
    weak = Checked("gender", NAMES, 24, 70, dict.fromkeys(NAMES, 0.5), 0.3, -0.6, 0.8, 0.5)
    assert "scores may not predict" in warnings(an_exploration(checked=(weak,)))[0]
    none = replace(weak, rho=None, low=None, high=None)
    assert "the check says nothing" in warnings(an_exploration(checked=(none,)))[0]
    assert warnings(an_exploration()) == ()


def test_of_many_prompts_both_ends_are_drawn_and_all_are_in_the_table_of_scores():
    names = tuple(f"prompt {number:03}" for number in range(100))
    found = an_exploration(names)
    page = render(found)
    assert f"the {SHOWN_AT_EACH_END} prompts at each end of 100" in page
    assert "prompt 000" in page
    [figure] = score_figures(found)
    assert {name: f">{name}<" in figure.svg for name in ("prompt 000", "prompt 050", "prompt 099")} == {
        "prompt 000": True,
        "prompt 050": False,
        "prompt 099": True,
    }
    assert len(list(csv.reader(io.StringIO(scores_csv(found))))) == 101


def test_tables_hold_awkward_names():
    rows = list(csv.DictReader(io.StringIO(scores_csv(an_exploration()), newline="")))
    assert rows[2]["prompt"] == AWKWARD
    assert next(csv.reader(io.StringIO(similarities_csv(an_exploration()))))[2] == AWKWARD
    assert similarities_csv(an_exploration(similarities=None)) == ""


def test_the_strongest_descriptors_are_relative_to_means():
    given = Similarities(("a", "b"), {"x": (0.9, 0.5), "y": (0.9, 0.1)}, {"x": None, "y": None})
    assert strongest_descriptors(given) == {"x": ("b",), "y": ("a",)}
    assert an_exploration().as_data()["similarities"]["cosines"]["doctor"] == pytest.approx((0.0, 0.5))


def an_open_set(**changes):
    strip = Strip((f"{AWKWARD}/8",), ("nurse/9",))
    found = OpenSet(
        images=16,
        embedder="features",
        rate=0.05,
        margin=0.1,
        attributes=3,
        tests=9,
        candidates=2,
        findings=(
            Finding(1, AWKWARD, 0.85, 0.2, 0.6, 0.5, 0.7, 0.0001, 0.55, 0.0002, 4.1, ("glasses",), strip),
            Finding(27, "nurse", 0.1, 0.5, -0.4, -0.5, -0.3, 0.001, -0.4, 0.002, 3.5, (), strip),
        ),
        rare=(Rare("nurse", 1.3, 0.1, 0.05, 1.5, ("nurse/1",)),),
        words=20,
        cut_words=2,
        word_candidates=3,
        unknown_words=("poor",),
        word_findings=(WordFinding(AWKWARD, "own", "nurse", 1.2, 0.9, 1.5, 0.001, 0.9, 0.8, strip),),
        pictures=dict.fromkeys((f"{AWKWARD}/8", "nurse/9", "nurse/1"), "UklGRg=="),
    )
    return replace(found, **changes)


A_STRESS = Stress(
    8,
    (Condition("plain", ""), Condition("descriptor", AWKWARD), Condition("guidance", "1")),
    (StressFigure("gender", 0.4, 0.6, 0.5, 0.7, (("nurse", AWKWARD),), (0.3, 0.5, 0.4)),),
    (
        Shift("nurse", 1, "gender", "female", 0.5, 0.9, 0.4, 0.2, 0.6, 0.001, True),
        Shift("doctor", 2, "gender", "female", 0.5, 0.5, 0.0, -0.2, 0.2, 1.0, False),
    ),
)


def test_open_set_findings_have_rates_intervals_and_pictures():
    page = render(an_exploration(open_set=an_open_set()))
    assert AWKWARD not in page
    assert "A, more often" in page
    assert "A2, less often" in page
    assert "[50, 70]" in page
    assert page.count("data:image/webp;base64,UklGRg==") == 7
    assert "images confirmed 2." in page
    assert "Nothing is reported of “poor”" in page
    assert "2 more are too long" in page
    assert len(list(csv.reader(io.StringIO(findings_csv(an_open_set()))))) == 4


def test_an_open_set_without_findings_is_no_evidence_of_absence():
    nothing = an_open_set(findings=(), word_findings=(), rare=(), words=0, unknown_words=())
    page = render(an_exploration(open_set=nothing))
    assert "not evidence that there is none" in page
    assert "No words were scored" in page
    assert '<h2 id="open-set"' not in render(an_exploration())


def test_stress_shows_the_worst_tenth_beside_the_mean_and_what_is_found():
    page = render(an_exploration(stress=A_STRESS))
    assert "worst tenth" in page
    assert "1 of 2 tests" in page
    assert AWKWARD not in page
    assert len(list(csv.reader(io.StringIO(stress_csv(A_STRESS))))) == 3
