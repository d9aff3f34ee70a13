"""The page of a benchmark from stored results: tables, charts, strips, and the same figures in the other files."""

import io
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from audit.config.sections import ReportConfig
from audit.records.work import BASELINE
from audit.results.arm_rows import ArmRows
from audit.results.benchmark.costs import Cost
from audit.results.benchmark.rankings import Agreement
from audit.results.benchmark.rows import RowOrigin, method_rows
from audit.results.benchmark.steered import Figure, GroupInArm
from reports.benchmark.files import MARKDOWN, PAGE, PARQUET, flat_row, markdown, parquet, write_files
from reports.benchmark.findings import Findings, Strip
from reports.benchmark.page import render
from reports.benchmark.published import NOTE, TABLES
from reports.benchmark.strips import MAX_BYTES, strips_of, within_size
from reports.benchmark.sweep import sweep_figures
from reports.benchmark.tables import BEST, effect_table, model_tables, quality_table
from reports.charts.axis import Mark
from reports.charts.scatter import Point, front
from reports.index.story import story_of

ARMS = ("difflens-gender", "prompt")
TARGETS = {"difflens-gender": {"gender": {"female": 0.3, "male": 0.7}}, "prompt": {"gender": {"female": 0, "male": 1}}}


@pytest.fixture(scope="module")
def findings(sample):
    result = sample((BASELINE, *ARMS))
    costs = {"difflens-gender": Cost(1.0, 0, 0, None, 252, 14_208), "prompt": Cost(2.0, 64, 10, 12.5, 0, 0)}
    origin = RowOrigin("toy", ("gender",), dict.fromkeys(ARMS, "m"), costs, TARGETS)
    return Findings("trial", tuple(method_rows(origin, result, images(result))))


def images(result):
    """Rows of arms in which one image in four changes its age."""
    story, rng = story_of(result), np.random.default_rng(0)
    size = 8 * len(story.prompts)
    places = {prompt: slice(8 * n, 8 * n + 8) for n, prompt in enumerate(story.prompts)}
    codes = {a.name: rng.integers(0, len(a.groups), size) for a in story.attributes}

    def of(arm):
        own = {name: values.copy() for name, values in codes.items()}
        if arm != BASELINE:
            own["age"][::4] = (own["age"][::4] + 1) % 3
        widths = {a.name: len(a.groups) for a in story.attributes}
        probabilities = {name: np.eye(widths[name])[values] for name, values in own.items()}
        return ArmRows(arm, np.array(["classified"] * size), probabilities, places, {})

    return {arm: of(arm) for arm in story.arms}


def test_a_method_that_changes_no_image_is_named_and_wins_no_column(findings):
    first, second = findings.rows
    same = replace(second, clip_i=Figure(1 - 1e-8, 1 - 2e-8, 1.0), flips=Figure(0.0, 0.0, 0.01))
    changed = replace(second, clip_i=Figure(0.9, 0.89, 0.91), flips=Figure(0.3, 0.29, 0.31))
    [part] = replace(findings, rows=(first, same)).parts
    rows = effect_table(part).rows
    assert rows[2][0] == "2 prompt (changes no image)"
    assert BEST not in rows[2][4]
    [part] = replace(findings, rows=(first, changed, replace(same, control="things"))).parts[:1]
    assert "changes no image" not in str(effect_table(part).rows)
    assert not replace(same, control="things").changes_no_image


def test_rows_have_the_figures_of_the_audit(findings, sample):
    row, mean = findings.rows[0], None
    result = sample((BASELINE, *ARMS))
    for overall in result.overall:
        if (overall.arm, overall.attribute) == ("difflens-gender", "gender"):
            mean = overall.mean_over_prompts
    assert row.after == Figure(mean.value, mean.low, mean.high)
    assert row.before.value > 2 * row.after.value
    assert row.flips.value == 0.25
    assert row.shifted in ("age", "skin_tone")
    assert row.prompts == 16


def test_control_prompts_are_a_part_of_their_own_that_says_what_must_stay(findings):
    same = Figure(0.0, 0.0, 0.1)
    control = tuple(replace(row, control="female", own_flips=same, own_shift=same) for row in findings.rows)
    both = replace(findings, rows=(*findings.rows, *control))
    main, part = both.parts
    assert (main.control, part.control) == ("", "female")
    table = effect_table(part)
    assert table.columns[1:3] == ("Shift of gender", "Images whose gender changes")
    assert [row[0] for row in table.rows] == ["1 difflens-gender", "2 prompt"]
    assert "control prompts female" in render(both)
    assert render(both).count('<svg class="chart"') == render(findings).count('<svg class="chart"')
    assert {row["control"] for row in pq.read_table(io.BytesIO(parquet(both))).to_pylist()} == {"", "female"}


def test_several_models_have_a_table_of_their_discrepancies(findings):
    second = tuple(replace(row, model="toy-7", after=Figure(0.5, 0.4, 0.6)) for row in findings.rows[:1])
    control = tuple(replace(row, control="female", after=Figure(0.9, 0.8, 1.0)) for row in findings.rows)
    both = replace(findings, rows=(*findings.rows, *second, *control))
    [table] = model_tables(both)
    assert table.columns == ("Method", "toy", "toy-7")
    assert [row[0] for row in table.rows] == ["baseline", "difflens-gender", "prompt"]
    assert table.rows[1][2].startswith("0.500")
    assert table.rows[2][2] == "–"
    assert "By model" in render(both)
    assert model_tables(findings) == ()
    assert "By model" not in render(findings)


def test_figures_outside_the_hidden_parts_have_columns_where_they_are_measured(findings):
    row = replace(findings.rows[0], psnr_outside=Figure(31.0, 30.0, 32.0))
    [part] = Findings("trial", (row,)).parts
    assert "PSNR outside the hidden parts, dB" in quality_table(part).columns
    assert "LPIPS outside the hidden parts" not in quality_table(part).columns
    [plain] = findings.parts
    assert "PSNR outside the hidden parts, dB" not in quality_table(plain).columns


def test_the_effect_table_begins_with_the_baseline(findings):
    [part] = findings.parts
    table = effect_table(part)
    assert [row[0] for row in table.rows] == ["baseline", "1 difflens-gender", "2 prompt"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.rows[1][4].startswith("25")


def test_only_a_separate_best_is_marked(findings):
    [part] = findings.parts
    first, second = part.rows
    assert BEST not in str(quality_table(part).rows)  # both arms have the same figures
    ahead = replace(part, rows=(first, replace(second, clip_i=Figure(0.99, 0.98, 1.0))))
    marked = [cell for row in quality_table(ahead).rows for cell in row if BEST in cell]
    assert marked == ["0.990 [0.980, 1.00] ★"]


def test_the_page_has_charts_tables_and_the_published_figures_apart(findings):
    page = render(findings)
    assert page.count('<svg class="chart"') == 2
    assert "2 methods on 1 attribute of 1 model" in page
    ranked, _, published = page.partition('<h2 id="published">')
    assert NOTE in published
    assert all(table.caption in published for table in TABLES)
    assert not any(table.caption in ranked for table in TABLES)
    assert "http:" not in page
    assert "https:" not in page


def test_names_cannot_inject_markup(findings):
    hostile = "<img src=x onerror=1>"
    bad = Findings(hostile, tuple(replace(row, model=hostile, arm=hostile) for row in findings.rows))
    assert "<img src=x" not in render(bad)
    assert "<img src=x" not in markdown(bad)


def test_missing_audits_and_images_are_said(findings):
    page = render(replace(findings, waiting=("toy, age",), incomplete=("toy, gender",)))
    assert "Not finished: toy, age." in page
    assert "Images are missing in: toy, gender." in page
    assert 'class="notice">Not finished' not in render(findings)


def test_agreements_are_a_table_of_their_own(findings):
    found = Agreement("toy", "gender", "held-out prompts", 0.8, 0.03, 6)
    tied = replace(found, tau=None, p_value=None)
    page = render(replace(findings, agreements=(found, tied)))
    assert "Do the rankings agree?" in page
    assert "all methods tie" in page
    assert "Do the rankings agree?" not in render(findings)


def test_the_files_hold_the_same_figures(findings, tmp_path):
    assert write_files(findings, tmp_path) == tmp_path / PAGE
    assert {path.name for path in tmp_path.iterdir()} == {PAGE, MARKDOWN, PARQUET}
    [first, second] = pq.read_table(io.BytesIO(parquet(findings))).to_pylist()
    assert first == flat_row(findings.rows[0])
    assert (first["after"], second["fit_seconds"], second["calls"]) == (findings.rows[0].after.value, 12.5, 2.0)
    assert first["fid_low"] is None
    tables = [line for line in markdown(findings).splitlines() if line.startswith("| 1 difflens-gender")]
    assert len(tables) == 4


def test_a_part_without_any_figure_has_no_chart_and_no_mark(findings):
    bare = replace(
        findings.rows[0], before=None, after=None, worst=None, worst_before=None, flips=None, clip_i=None, clip_t=None,
        kid=None, fid=None, shown=None, shift=None, unlike_prompt=None, unlike_all=None, faces_lost=None,
    )  # fmt: skip
    page = render(Findings("trial", (bare,)))
    assert '<svg class="chart"' not in page


def swept(row, target, near):
    """A row whose arm steers *male* to a share, which it meets."""
    share, figure = Figure(target, target - 0.1, target + 0.1), near and Figure(near, near - 0.01, near + 0.01)
    before = Figure(0.8, 0.7, 0.9), Figure(0.4, 0.39, 0.41)
    male = GroupInArm("male", target, share, figure, figure, *before)
    return replace(row, arm=f"m{100 * target:.0f}", groups=(male,))


def test_arms_with_several_targets_have_a_chart_of_share_and_clip_d(findings):
    rows = tuple(swept(findings.rows[0], target, 0.2 + 0.3 * target) for target in (0.1, 0.5, 0.9))
    several = Findings("trial", rows)
    [figure] = sweep_figures(several.parts[0], "a")
    assert figure.table.rows[0][:4] == ("baseline", "–", "0.800 [0.700, 0.900]", "0.400 [0.390, 0.410]")
    assert figure.table.rows[3][:4] == ("3 m90", "0.900", "0.900 [0.800, 1.00]", "0.470 [0.460, 0.480]")
    page = render(several)
    assert page.count('<svg class="chart"') == 3
    assert "as its text describes it" in page
    assert "| 3 m90 | 0.900 | 0.900 [0.800, 1.00] | 0.470 [0.460, 0.480] |" in markdown(several)
    stored = pq.read_table(io.BytesIO(parquet(several))).to_pylist()
    assert stored[2]["groups"] == flat_row(rows[2])["groups"]
    assert stored[2]["groups"][0]["clip_d"] == {
        "value": pytest.approx(0.47),
        "low": pytest.approx(0.46),
        "high": pytest.approx(0.48),
    }


def test_a_line_joins_the_targets_of_one_method_and_neither_the_baseline_nor_an_arm_without_a_target(findings):
    rows = [replace(swept(findings.rows[0], t, 0.2 + 0.3 * t), method="a") for t in (0.1, 0.5, 0.9)]
    rows += [replace(swept(findings.rows[0], t, 0.3), method="b", arm=f"b{t}") for t in (0.2, 0.8)]
    alone = swept(findings.rows[0], 0.4, 0.3)
    rows.append(replace(alone, arm="c", method="c", groups=(replace(alone.groups[0], target=None),)))
    [figure] = sweep_figures(Findings("trial", tuple(rows)).parts[0], "a")
    lines = re.findall(r'<polyline class="curve[^>]* points="([^"]*)"', str(figure.svg))
    assert [len(line.split()) for line in lines] == [3, 2]
    assert str(figure.svg).count("<circle") == 7


def test_an_end_of_zero_is_on_the_scale_of_the_chart(findings):
    rows = [swept(findings.rows[0], target, 0.2) for target in (0.1, 0.9)]
    zero = replace(rows[0].groups[0], clip_d=Figure(0.2, 0.0, 0.4), clip_d_before=None)
    rows[0] = replace(rows[0], groups=(zero,))
    [figure] = sweep_figures(Findings("trial", tuple(rows)).parts[0], "a")
    assert str(figure.svg).count(">0.00<") == 2  # both scales begin at 0


def test_the_steered_shares_are_those_of_the_config_also_where_all_images_name_one_group(findings):
    assert [{one.group: one.target for one in row.groups} for row in findings.rows] == [
        TARGETS[arm]["gender"] for arm in ARMS
    ]


def test_one_target_is_no_sweep_and_without_clip_there_is_no_chart(findings):
    one = Findings("trial", (swept(findings.rows[0], 0.5, 0.4),) * 2)
    assert not [*sweep_figures(one.parts[0], "a")]
    dark = Findings("trial", tuple(swept(findings.rows[0], target, None) for target in (0.1, 0.9)))
    dark = replace(dark, rows=tuple(replace(r, groups=(replace(r.groups[0], clip_d_before=None),)) for r in dark.rows))
    assert not [*sweep_figures(dark.parts[0], "a")]
    assert "CLIP-D" not in render(findings) + markdown(findings) + render(dark)


def test_a_page_of_nothing_is_refused():
    with pytest.raises(ValueError, match="expected a finished audit"):
        render(Findings("trial"))


def test_strips_are_the_first_kept_images_of_every_arm(run_directory, findings, result):
    [strip] = strips_of(run_directory, findings.rows[0], story_of(result).arms, ["doctor"], ReportConfig())
    assert [arm for arm, _ in strip.rows] == list(story_of(result).arms)
    assert strip.indices == tuple(range(len(strip.indices)))
    assert all(pictures[0][8:12] == b"WEBP" for _, pictures in strip.rows)
    page = render(replace(findings, strips=(strip,)))
    assert page.count("data:image/webp;base64,") == sum(len(pictures) for _, pictures in strip.rows)


def test_random_samples_are_no_part_of_a_strip(run_directory, findings, result):
    report = ReportConfig(images_per_prompt=2)
    [strip] = strips_of(run_directory, findings.rows[0], story_of(result).arms, ["doctor"], report)
    assert strip.indices == (0, 1)


def test_strips_beyond_the_size_of_a_page_are_dropped(findings):
    big = Strip("toy", ("gender",), "doctor", (0,), ((BASELINE, (b"x" * (MAX_BYTES // 2),)),))
    assert len(within_size(replace(findings, strips=(big, big, big))).strips) == 2


def test_the_front_has_what_no_other_point_beats():
    points = [
        Point(name, name, Mark(x), Mark(y)) for name, x, y in (("a", 0, 3), ("b", 1, 1), ("c", 2, 2), ("d", 3, 0))
    ]
    assert [point.mark for point in front(points, high_is_better=False)] == ["a", "b", "d"]
    assert [point.mark for point in front(points, high_is_better=True)] == ["a"]
