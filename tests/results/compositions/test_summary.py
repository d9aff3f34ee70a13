"""A summary counts every image once, and withholds the shares of a pair whose matches are no better than chance."""

import numpy as np
import pytest

from audit.records.inside.compositions import Compositions
from audit.records.work import PairPrompt, Prompt
from audit.results.compositions.summary import SeenPersons, Setting, compositions_of
from reports.compositions import tables
from reports.compositions.files import composition_frames
from reports.compositions.page import render
from reports.compositions.tables import joint_tables
from reports.compositions.words import findings, lines, warnings

PAIR = PairPrompt("doctor-and-nurse", "a doctor and a nurse", "doctor and nurse", "doctor", "nurse")
ALONE = [Prompt(name, f"a {name}", name) for name in ("doctor", "nurse")]
GROUPS = {"gender": ("female", "male")}
DOCTOR, NURSE = np.eye(2)
N = 40
WEBP = (b"RIFF",) * N


def seen(vectors, codes, people):
    return SeenPersons(np.full(N, people), np.array(vectors), {"gender": np.array(codes)}, WEBP)


def alone(vector, code):
    persons = np.full((N, 2, 2), np.nan)
    persons[:, 0] = vector
    return seen(persons, [[code, -1]] * N, 1)


def summary(doctor=DOCTOR, nurse=NURSE, people=2):
    """Forty pictures of a male doctor and a female nurse, on alternating sides; alone, half of each are male."""
    sides = [[DOCTOR, NURSE], [NURSE, DOCTOR]] * (N // 2)
    codes = [[1, 0], [0, 1]] * (N // 2)
    vectors = sides if people == 2 else np.full((N, 2, 2), np.nan)
    pairs = {PAIR: seen(vectors, codes if people == 2 else [[-1, -1]] * N, people)}
    single = {prompt: alone(vector, 1) for prompt, vector in zip(ALONE, (doctor, nurse), strict=True)}
    setting = Setting("audit", "model", {"judge": "j"}, GROUPS, 0.8, 0.05, 10.0, {"doctor": DOCTOR, "nurse": NURSE})
    return compositions_of(pairs, single, setting)


def test_persons_are_counted_by_occupation_whatever_their_side():
    found = summary()
    [pair] = found.pairs
    assert (pair.apart, pair.people, pair.classified) == (N, (0, 0, N, 0), {"gender": N})
    counts = {(one.first, one.second): one.count for one in found.cells}
    assert counts == {
        ("female", "female"): 0,
        ("female", "male"): 0,
        ("male", "female"): N,
        ("male", "male"): 0,
    }
    company = {(one.occupation, one.group): one for one in found.company}
    assert company["nurse", "female"].change.value == 1.0
    assert company["nurse", "female"].found
    assert not company["doctor", "female"].found
    assert len(warnings(found)) == 1  # alone, all are male
    assert "not known for a female doctor with a male nurse (no checked match)" in warnings(found)[0]
    assert "doctor (left): male; nurse (right): female" in [one.caption for one in found.pictures[PAIR.id]]


@pytest.mark.parametrize("people", [0, 1, 3])
def test_without_two_people_every_image_is_counted_and_in_no_group(people):
    found = summary(people=people)
    [pair] = found.pairs
    assert pair.people[min(people, 3)] == N == sum(pair.people)
    assert found.cells == found.reversals == found.alike == ()
    said = list(lines(found))
    assert (
        said[0] == f"In none of the {N} images of “a doctor and a nurse” were two people found, so there are no shares."
    )
    assert not any("%" in line for line in said)
    assert "In none of the 40 images" in render(found)


def test_matches_no_better_than_chance_give_no_shares():
    """Alone, doctors look like nurses and nurses like doctors: all matches with known truth are wrong."""
    found = summary(doctor=NURSE, nurse=DOCTOR)
    [pair] = found.pairs
    assert pair.people[2] == N
    assert pair.apart == 0
    assert found.cells == ()
    assert "no better than by chance" in next(lines(found))
    assert "matched with the wrong occupation" in " ".join(warnings(found))


def test_a_few_wrong_matches_are_a_warning_beside_the_shares():
    found = summary()
    [whole, *_] = found.matchings
    assert (whole.pairs, whole.apart, whole.right.value, whole.right.n) == (N * N, N * N, 1.0, N)
    some = alone(DOCTOR, 1)
    some.vectors[: N // 4, 0] = NURSE
    other = alone(NURSE, 0)
    other.vectors[: N // 4, 0] = DOCTOR
    setting = Setting("audit", "model", {}, GROUPS, 0.8, 0.05, 10.0, {"doctor": DOCTOR, "nurse": NURSE})
    pictures = seen([[DOCTOR, NURSE]] * N, [[1, 0]] * N, 2)
    found = compositions_of({PAIR: pictures}, dict(zip(ALONE, (some, other), strict=True)), setting)
    assert (found.matchings[0].right.value, found.matchings[0].right.n) == (0.9, N)  # 900 of 1000 told apart
    assert found.pairs[0].apart == N
    assert "90\N{NO-BREAK SPACE}% [77, 97] of matches are right, by 40 images" in warnings(found)[0]


def by_gender_alone(females):
    """Pictures whose vectors hold gender alone; text of a nurse is female. Every pair shows a woman as the doctor."""
    random = np.random.default_rng(0)

    def vectors(codes):
        return np.eye(2)[codes] + 0.05 * random.normal(size=(*codes.shape, 2))

    single = {}
    for prompt, count in zip(ALONE, females, strict=True):
        codes = np.stack([(np.arange(N) >= count).astype(int), np.full(N, -1)], axis=1)
        persons = np.full((N, 2, 2), np.nan)
        persons[:, 0] = vectors(codes[:, 0])
        single[prompt] = seen(persons, codes, 1)
    side = random.integers(0, 2, N)
    codes = np.stack([side, 1 - side], axis=1)
    setting = Setting("audit", "model", {}, GROUPS, 0.8, 0.05, 20.0, {"doctor": np.eye(2)[1], "nurse": np.eye(2)[0]})
    return compositions_of({PAIR: seen(vectors(codes), codes, 2)}, single, setting)


def test_a_clip_that_reads_gender_alone_does_not_make_up_who_is_which():
    """Nearly all matches are right, since doctors alone are mostly male; those of a female doctor are all wrong."""
    found = by_gender_alone((10, 30))
    whole = next(one for one in found.matchings if not one.attribute)
    cell = next(one for one in found.matchings if (one.first, one.second) == ("female", "male"))
    assert whole.right.low > 0.5
    assert (cell.pairs, cell.right.value, cell.right.n) == (100, 0.0, 10)
    assert found.cells == found.reversals == found.alike == ()
    assert {one.share for one in found.company} == {None}
    assert not any(one.sentences for one in findings(found))
    [said] = [one for one in warnings(found) if "no shares" in one]
    assert "matches seem to follow gender and not the occupation" in said
    assert "those of a female doctor with a male nurse are 0" in said
    assert found.pairs[0].apart == 0  # no other attribute may rest on such matches either
    assert "CLIP seems to match them by gender" in next(lines(found))
    assert found.pictures[PAIR.id][0].caption == "persons not told apart"
    assert "seem to follow gender" in render(found)


def test_a_combination_that_the_model_hardly_shows_alone_is_not_known_beside_the_finding():
    found = by_gender_alone((2, 39))
    titles = {one.title.partition(":")[0]: one.sentences for one in findings(found)}
    [said] = titles["Who is which"]
    assert "the doctor is male and the nurse female" in said
    unknown = "matched right is not known for a female doctor with a male nurse (0"
    assert "Whether matches are right is not known for a female doctor with a male nurse (0" in said
    assert any(unknown in one for one in warnings(found))


@pytest.mark.parametrize(("known", "said"), [(0, "too few checked"), (3, "too few checked"), (5, None)])
def test_shares_need_enough_checked_matches_to_exclude_chance(known, said):
    single = {prompt: alone(vector, 1) for prompt, vector in zip(ALONE, (DOCTOR, NURSE), strict=True)}
    for persons in single.values():
        persons.vectors[known:] = np.nan
    setting = Setting("audit", "model", {}, GROUPS, 0.8, 0.05, 10.0, {"doctor": DOCTOR, "nurse": NURSE})
    found = compositions_of({PAIR: seen([[DOCTOR, NURSE]] * N, [[1, 0]] * N, 2)}, single, setting)
    assert (found.pairs[0].apart, bool(found.cells)) == ((0, False) if said else (N, True))
    assert (said or "told apart in 40 of these") in next(lines(found))


def test_the_result_survives_its_file_and_its_frames_have_all_rows():
    found = summary()
    assert Compositions.of_data(found.as_data()) == found
    frames = composition_frames(found)
    assert frames["joint"].loc[2, ["first", "second", "count", "share_n"]].tolist() == ["male", "female", N, N]
    assert frames["images"].loc[0, ["two_people", "apart", "classified_gender"]].tolist() == [N, N, N]
    assert len(frames["company"]) == 4
    with pytest.raises(ValueError, match="run the command again"):
        Compositions.of_data(found.as_data() | {"format_version": 0})


def test_margins_of_a_joint_table_are_of_the_same_images_as_its_cells():
    codes = [[1, 0]] * 10 + [[1, -1]] * 20 + [[0, 1]] * 10
    single = {prompt: alone(vector, 1) for prompt, vector in zip(ALONE, (DOCTOR, NURSE), strict=True)}
    setting = Setting("audit", "model", {}, GROUPS, 0.8, 0.05, 10.0, {"doctor": DOCTOR, "nurse": NURSE})
    found = compositions_of({PAIR: seen([[DOCTOR, NURSE]] * N, codes, 2)}, single, setting)
    [table] = joint_tables(found, found.pairs[0])
    assert "20 images" in table.caption
    counts = [[int(cell.rpartition("(")[2].rstrip(")")) for cell in row[1:] if cell] for row in table.rows]
    assert counts == [[0, 10, 10], [10, 0, 10], [10, 10]]


def test_tables_that_are_cut_show_what_matters_and_say_so(monkeypatch):
    monkeypatch.setattr(tables, "_ROWS", 2)
    found = by_gender_alone((10, 30))
    table = tables.matching_table(found)
    assert [row[1] for row in table.rows] == ["all", "doctor female, nurse male"]
    assert table.caption.endswith("(3 more rows are in the files)")


def test_the_page_and_the_findings_say_who_is_which():
    found = summary()
    page = render(found)
    titles = [one.title for one in findings(found)]
    assert titles[0] == "Who is which: 1 of 1 tests find a difference"
    assert "the doctor is male and the nurse female in 40 of 40 images, the reverse in 0" in page
    empty = summary(people=0)
    assert [one.title for one in findings(empty)] == []
