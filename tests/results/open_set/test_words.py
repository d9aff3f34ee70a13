"""Words are found where their scores are higher, and reported only if model and CLIP know them."""

from dataclasses import replace

import numpy as np
import pytest

from audit.results.open_set.vocabulary import OWN, Word, words_of
from audit.results.open_set.words import WordTests, area_above, directions, word_findings, word_tests
from tests.results.open_set.test_findings import IMAGES, PROMPTS, a_sample

WORDS = (Word("glasses", "objects"), Word("poor", "social_triggers"), Word("nurse", "winobias"))


def scores_of(sample, effect=2.0, held_out=None):
    scores = np.random.default_rng(5).normal(size=(len(sample.prompts), 3))
    rows = sample.prompts == 2
    scores[rows, 0] += effect
    if held_out is not None:
        scores[rows & (sample.numbers >= IMAGES // 2), 0] += held_out - effect
    return scores


def test_a_word_is_found_in_its_prompt_and_reported_if_it_is_known():
    sample = a_sample()
    scores = scores_of(sample)
    tests = word_tests(sample, scores, np.ones((PROMPTS, 3), bool), 0.05)
    [one] = tests.confirmed
    assert (one.word, one.prompt) == (0, 2)
    assert one.low < 2 < one.high
    for area, count in (((0.9, 0.8), 1), ((0.6, 0.45), 0)):
        assert len(word_findings(sample, scores, WORDS, tests, {0: area})) == count
    assert word_findings(sample, scores, WORDS, tests, {}) == ()


def test_a_word_that_the_prompt_says_or_that_is_not_confirmed_is_left_out():
    sample = a_sample()
    allowed = np.ones((PROMPTS, 3), bool)
    allowed[2, 0] = False
    assert word_tests(sample, scores_of(sample), allowed, 0.05).confirmed == ()
    failed = word_tests(sample, scores_of(sample, held_out=0.0), np.ones((PROMPTS, 3), bool), 0.05)
    assert (failed.candidates, failed.confirmed) == (1, ())


def test_the_area_is_one_half_for_equal_samples_with_an_interval_around_it():
    random = np.random.default_rng(0)
    area, low = area_above(random.normal(size=200), random.normal(size=200))
    assert low < 0.5
    assert area == pytest.approx(0.5, abs=0.06)
    assert area_above(np.arange(10) + 20, np.arange(10)) == (1.0, pytest.approx(0.85, abs=0.1))


def test_directions_start_at_the_neutral_text():
    rows = directions(np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([1.0, 0.0]))
    assert rows.tolist() == [[0, 1], [0, 0]]


def test_bundled_lists_have_a_source_and_words_each_once(tmp_path):
    words = words_of(("winobias", "isco08", "descriptors", "social_triggers", "objects", "places"), None)
    assert sum(word.source == "winobias" for word in words) == 40
    assert len({word.text for word in words}) == len(words)
    assert Word("glasses", "objects").about("person") == "person with glasses"
    assert Word("at home", "places").about("person") == "person at home"
    assert Word("poor", OWN).about("person") == "poor person"
    (tmp_path / "own.txt").write_text("\ufeff# mine\nleft-handed # a note\n\nnurse\n", encoding="utf-8")
    own = words_of(("winobias",), str(tmp_path / "own.txt"))
    assert own[-1] == Word("left-handed", OWN)
    assert len(own) == 41


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"# nothing\n"])
def test_a_file_without_words_is_refused(tmp_path, content):
    path = tmp_path / "own.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"explore.open_set.vocabulary: expected a text file"):
        words_of((), str(path))


def test_scores_that_never_vary_within_prompts_are_no_finding():
    sample = replace(a_sample(), groups={})
    scores = scores_of(sample)
    scores[:, 0] = sample.prompts == 2
    assert word_tests(sample, scores, np.ones((PROMPTS, 3), bool), 0.05) == WordTests(0, ())
    scores = scores_of(sample)
    held = sample.half(held_out=True)
    scores[held, 0] = sample.prompts[held] == 2
    assert word_tests(sample, scores, np.ones((PROMPTS, 3), bool), 0.05) == WordTests(1, ())
