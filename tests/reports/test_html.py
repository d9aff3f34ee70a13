"""Tests the report: the figures of the result, safety with hostile input, and its size."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace

import pytest

from audit.measure.inference.intervals import share_estimate
from audit.planning.plan import prompt_ids
from audit.records.estimates import Change, Estimate
from audit.records.quality import Measurement
from audit.records.result import TwoStageSampling
from audit.records.work import BASELINE, ImageKey
from audit.storage.outside.safe_text import redact
from ray_jobs.cli.terminal import show_outcome
from reports.export.audit_json import from_json, to_json
from reports.export.markdown import to_markdown
from reports.figures.pictures import Pictures, fit
from reports.html import kept_pictures, render, write_report
from reports.index.lookups import mean_discrepancy
from reports.index.story import story_of
from reports.words.formats import figure_text, number
from reports.words.headline import headline
from reports.words.key_figures import status_gaps

HOSTILE = "<script>alert(1)</script>"
NONE = Pictures({}, {})


class Page(HTMLParser):
    """Collects the elements of a page with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(result, run_directory):
    return Page(render(result, kept_pictures(run_directory, result)))


def replaced(value, old, new):
    """Plain data with a string replaced everywhere, keys included."""
    return json.loads(json.dumps(value).replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1]))


def test_the_headline_has_the_most_skewed_occupations_of_the_result(result):
    story = story_of(result)
    shares = {
        (row.prompt_id, group): share.value
        for row in result.results
        if (row.arm, row.attribute) == (BASELINE, "gender")
        for group, share in row.shares.items()
    }
    (prompt, group), share = max(shares.items(), key=lambda item: item[1])
    assert f"{prompt.replace('_', ' ')} as {group} in {100 * share:.0f}" in headline(story).title
    before, after = (number(mean_discrepancy(story, "gender", arm)) for arm in story.arms)
    assert f"from {before} to {after}" in headline(story).lead


def of_occupations(result, names, template="a face photo of {a} {occupation}"):
    """The result of an audit whose config names its occupations: ``names`` instead of some of the sample's."""
    occupations = [names.get(prompt, prompt) for prompt in story_of(result).prompts]
    data = to_json(result)
    for prompt, prompt_id in zip(story_of(result).prompts, prompt_ids(occupations), strict=True):
        data = replaced(data, prompt, prompt_id) if prompt in names else data
    data["config"]["prompts"] |= {"occupations": occupations, "template": template}
    return from_json(data)


@pytest.mark.parametrize(
    ("men", "women"),
    [
        ("an X-ray technician", "a university lecturer"),
        ("an hourly worker", "a European judge"),
        ("a one-man band", "an MRI technician"),
    ],
)
def test_the_headline_writes_occupations_as_the_config_does_with_the_article_of_the_prompt(result, men, women):
    names = {"fire_fighter": men.partition(" ")[2], "nurse": women.partition(" ")[2]}
    title = headline(story_of(of_occupations(result, names))).title
    assert title.startswith("The model draws ")
    assert f" {men} as male in " in title
    assert f" {women} as female in " in title


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{a} portrait of {a} {occupation}", "a portrait of an X-ray technician"),
        ("{a} old {occupation}", "an old X-ray technician"),
        ("the {occupation}", "the X-ray technician"),
    ],
)
def test_the_method_quotes_a_prompt_of_the_audit(result, template, prompt):
    html = render(of_occupations(result, {"doctor": "X-ray technician"}, template), NONE)
    assert f"with prompts such as “{prompt}”" in html


def test_an_occupation_of_two_words_is_never_shown_as_its_prompt_id(result, run_directory, verdict):
    """This covers charts, tables, pictures, features and gates."""
    data = replaced(to_json(replace(result, verdicts=(verdict(),))), "doctor", "police-officer")
    html = render(from_json(data), NONE)
    assert "police-officer" not in html
    assert "share of female (gender), police officer, arm baseline" in html
    assert html.count("police officer") > 20


def test_every_section_and_its_link_exist(page):
    anchors = {attributes["href"] for attributes in page.all("a")}
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(anchors) >= 8
    assert all(anchor[0] == "#" and anchor[1:] in ids for anchor in anchors)


def test_structure_is_accessible(page):
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert all("scope" in attributes for attributes in page.all("th"))
    assert all(attributes.get("alt") for attributes in page.all("img"))


def test_no_script_and_no_address_outside_the_file(page):
    assert not page.all("script")
    assert not page.all("link")
    addresses = [attributes[name] for _, attributes in page.elements for name in ("src", "href") if name in attributes]
    assert all(address.startswith(("#", "data:image/webp;base64,")) for address in addresses)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


@pytest.mark.parametrize(
    "harmless",
    ["a face photo of {a} {occupation}", "doctor", "female", "gender", "calibration-mid_block-4f2a", "torch"],
)
def test_hostile_text_is_inert_wherever_it_comes_from(result, run_directory, harmless):
    hostile = from_json(replaced(to_json(result), harmless, HOSTILE))
    html = render(hostile, NONE)
    assert "<script" not in html
    assert not Page(html).all("script")
    assert HOSTILE.replace("<", "&lt;").replace(">", "&gt;")[:9] in html


def test_every_share_of_the_result_is_in_a_table(page, result):
    cells = {text.strip() for text in page.text}
    for row in result.results:
        for share in row.shares.values():
            assert f"{100 * share.value:.0f}\xa0% [{100 * share.low:.0f}, {100 * share.high:.0f}]" in cells


def test_without_gates_the_report_states_this(page):
    assert "No gates configured." in page.text


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        (("pass", "fail", "inconclusive"), "Fail"),
        (("pass", "inconclusive"), "Inconclusive"),
        (("pass",), "Pass"),
        (("pass", "warn"), "Warning"),
    ],
)
def test_the_worst_verdict_is_the_banner(result, verdict, verdicts, word):
    made = [verdict("fail", level="warn") if kind == "warn" else verdict(kind) for kind in verdicts]
    gated = replace(result, verdicts=tuple(made))
    banner = re.search(r'class="verdict \w+"><strong>. (\w+)</strong> <span>(.+?)\.<', render(gated, NONE))
    assert banner.group(1) == word
    assert banner.group(2).lower() in to_markdown(gated).lower()


def test_a_baseline_alone_is_a_whole_report(sample, store_run, tmp_path):
    run = store_run(tmp_path / "alone", sample((BASELINE,)))
    html = write_report(run.path).read_text()
    assert "This audit has one arm" in html
    assert "No lens was used" in html
    assert "After the intervention" not in html


def referenced(result):
    """The result with a distance of every arm from reference images."""
    found = {"fid_to_reference": measurement_of(41.5), "kid_to_reference": measurement_of(0.0625)}
    return replace(result, quality=tuple(replace(quality, **found) for quality in result.quality))


def measurement_of(value):
    network = "net:fid-inception:published:x.pth:6726825d0af5|resize:tf1-bilinear-299"
    return Measurement(value, 1024, f"metric:frechet_distance|{network}|n:1024")


def compared(result, network):
    """The result with comparisons of paired images, and distances on a network."""
    found = {
        "psnr": Measurement(21.5, 1024, "metric:psnr|peak:255|resize:none|n:1024", 21.1, 21.9),
        "lpips": Measurement(0.041, 9, "metric:lpips|net:lpips-0.1-alex:published:a.pth:7be5be791159|n:9", 0, 0.1),
        "fid": Measurement(6.2, 1024, f"metric:frechet_distance|{network}|n:1024", extra={"noise_floor": 1.9}),
        "kid": Measurement(0.01, 1000, f"metric:kernel_distance|{network}|n:1000", 0, 0.02, {"noise_floor": 0.0}),
    }
    return replace(result, quality=(result.quality[0], replace(result.quality[1], **found)))


TORCHVISION = "net:torchvision-inception-v3:inception.pt:0123456789ab|resize:bicubic-aa-299"


def test_a_distance_on_another_network_is_never_called_fid(sample):
    result = compared(sample(), TORCHVISION)
    page = render(result, NONE)
    costs = {row[0]: row[1:] for row in rows_of(page, "Quality and side effects per arm")}
    assert costs["Fréchet distance (torchvision Inception v3) to the baseline arm"] == ["–", "6.20"]
    shown = re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)  # the config is shown as it is
    outside_warning = shown.replace("Do not compare them with a FID or KID from a paper", "")
    outside_warning = outside_warning.replace("of published FIDs", "")
    assert re.findall(r"\b[FK]IDs?\b", outside_warning) == []
    assert re.findall(r"\b[FK]IDs?\b", to_markdown(result)) == []


def test_the_method_names_network_weights_resize_and_n_of_every_quality_figure(sample):
    page = render(compared(sample(), measurement_of(1.0).signature.split("|", 1)[1].removesuffix("|n:1024")), NONE)
    rows = {row[0]: row[1:] for row in rows_of(page, "Instruments of the quality figures")}
    assert rows["FID to baseline"] == ["fid-inception:published:x.pth:6726825d0af5", "tf1-bilinear-299", "1024"]
    assert rows["LPIPS"] == ["lpips-0.1-alex:published:a.pth:7be5be791159", "none", "9"]
    assert rows["PSNR of changed images, dB"] == ["none", "none", "1024"]
    assert "with its published weights. FID still depends on the number of images" in page
    assert "Do not compare them with a FID" not in page


def test_without_a_distance_nothing_is_said_about_fid(sample):
    page = render(sample((BASELINE,)), NONE)
    assert "Instruments of the quality figures" in page
    assert "published FIDs" not in page


@pytest.mark.parametrize("arms", [(BASELINE,), (BASELINE, "difflens-gender")])
def test_the_cost_has_the_distance_of_every_arm_from_the_reference(sample, arms):
    result = referenced(sample(arms))
    costs = {row[0]: row[1:] for row in rows_of(render(result, NONE), "Quality and side effects per arm")}
    assert costs["FID to the reference images"] == ["41.50"] * len(arms)
    assert costs["KID to the reference images"] == ["0.062"] * len(arms)
    summary = to_markdown(result)
    assert all(len(re.findall(rf"\| {arm.replace('-', '.+?')} .*\| 41.50 \| 0.062 \|", summary)) == 1 for arm in arms)
    assert ("with that of the baseline" in render(result, NONE)) == (len(arms) > 1)
    assert "the reference images" not in render(sample(arms), NONE)
    assert "to reference" not in to_markdown(sample(arms))


@pytest.mark.parametrize("arms", [(BASELINE,), (BASELINE, "difflens-gender")])
def test_the_terminal_has_the_distance_of_every_arm_from_the_reference(sample, capsys, arms):
    outcome = SimpleNamespace(
        result=referenced(sample(arms)),
        report="r",
        run_path="p",
        tracking_url=None,
        seconds=1,
        unmade=None,
        incomplete=(),
    )
    show_outcome(outcome, again="")
    assert capsys.readouterr().out.count("41.50") == len(arms)


def test_four_arms_are_all_drawn(sample):
    arms = (BASELINE, "difflens-gender", "stronger", "direction")
    page = Page(render(sample(arms), NONE))
    assert [sum(f"arm arm{arm}" == item.get("class") for _, item in page.elements) > 16 for arm in range(4)] == [
        True
    ] * 4


def test_an_edited_attribute_of_several_groups_opens_the_report(result):
    mitigations = [{**item, "attribute": "skin_tone"} for item in result.config["mitigations"]]
    html = render(replace(result, config={**result.config, "mitigations": mitigations}), NONE)
    assert "Mean fairness discrepancy, skin tone" in html
    assert re.search(r'<title id="hero-title">Perceived skin tone', html)


def test_the_method_names_the_sampler_the_published_one_and_the_safety_checker(result):
    sampling = {
        "scheduler": "DDIMScheduler", "steps": 50, "guidance": 7.5, "published_scheduler": "PNDMScheduler",
        "timestep_spacing": "leading", "safety_checker": "off (published with StableDiffusionSafetyChecker)",
    }  # fmt: skip
    text = render(replace(result, provenance=result.provenance | {"sampling": sampling}), NONE)
    assert "The sampler is DDIMScheduler, 50 steps (leading), guidance 7.5." in text
    assert "published with PNDMScheduler, with which users get other images" in text
    assert "The safety checker is off (published with StableDiffusionSafetyChecker)" in text
    assert "The sampler is" not in render(result, NONE)


def test_the_method_says_that_the_denoiser_is_compiled(result):
    sampling = {"scheduler": "DDIMScheduler", "steps": 50, "compiled": "BasicTransformerBlock, channels_last"}
    text = render(replace(result, provenance=result.provenance | {"sampling": sampling}), NONE)
    assert "The denoiser is compiled (BasicTransformerBlock, channels_last)" in text
    plain = {"scheduler": "DDIMScheduler", "steps": 50}
    assert "compiled" not in render(replace(result, provenance=result.provenance | {"sampling": plain}), NONE)


def test_the_method_says_that_a_model_is_a_black_box(result):
    sampling = {"pipeline": "KandinskyV22CombinedPipeline", "steps": 25, "guidance": 4.0, "inside": "not reached"}
    text = render(replace(result, provenance=result.provenance | {"sampling": sampling}), NONE)
    assert "The sampler is KandinskyV22CombinedPipeline, 25 steps, guidance 4.0. The pipeline's own code runs it." in (
        text.replace("&#39;", "'")
    )
    assert "its modules are not reached, so nothing in it was analysed or edited" in text


def test_two_stage_sampling_reports_its_images_and_those_of_a_single_stage(result):
    images = {prompt: 64 + 10 * number for number, prompt in enumerate(story_of(result).prompts)}
    staged = TwoStageSampling("gender", "female", 0.05, 0.049, 64, 402, images)
    text = render(replace(result, two_stage=staged), NONE)
    assert f"64 to {max(images.values())} images each per arm" in text
    assert f"took {sum(images.values()):,} images per arm" in text
    assert f"takes {402 * len(images):,}, {402 * len(images) / sum(images.values()):.2f} times as many" in text
    assert "two stages" not in render(result, NONE)


def test_every_arm_that_classifies_fewer_images_is_warned_of(sample):
    arms = (BASELINE, "difflens-gender", "gentle", "strong")
    result = sample(arms)
    assert status_gaps(story_of(result)) == ()
    missing = dict(result.missing)
    for arm, unclassified in {"difflens-gender": 389, "strong": 512}.items():
        difference = replace(missing[arm].difference, low=0.3, high=0.4)
        missing[arm] = replace(missing[arm], after=share_estimate(unclassified, 1024), difference=difference)
    lossy = replace(result, missing=missing)
    gaps = [(gap.arm, gap.share) for gap in status_gaps(story_of(lossy))]
    assert gaps == [("difflens-gender", "38\xa0%"), ("strong", "50\xa0%")]
    html = render(lossy, NONE)
    assert html.count("may explain part of a change in shares") == 2
    assert "⚠ strong leaves 50\xa0% of its images unclassified" in html


def test_an_occupation_without_a_classified_image_is_named_not_dropped(result):
    rows = tuple(
        replace(row, n=0, shares={}, fairness_discrepancy=None, statuses={"no_face": 64})
        if row.prompt_id == "judge"
        else row
        for row in result.results
    )
    html = render(replace(result, results=rows), NONE)
    assert "nothing classified" in html
    assert "not measured" in html


def test_an_empty_result_is_refused(result):
    with pytest.raises(ValueError, match="at least one row"):
        render(replace(result, results=()), NONE)


def test_the_size_limit_drops_the_last_indices_of_all_occupations_alike(result, run_directory):
    pictures = kept_pictures(run_directory, result)
    total = pictures.embedded_bytes
    cut = fit(pictures, total * 2 // 3)
    assert cut.embedded_bytes <= total * 2 // 3
    indices = {
        prompt: {key.index for key in cut.shown if key.prompt_id == prompt}
        for prompt in {k.prompt_id for k in cut.shown}
    }
    assert len(indices) == 16
    assert len({frozenset(kept) for kept in indices.values()}) == 1
    kept = next(iter(indices.values()))
    assert 0 < len(kept) < 4
    assert kept == set(range(len(kept)))
    assert "were left out" in cut.left_out
    assert fit(pictures, total) is pictures


def test_the_report_stays_under_its_limit_and_names_omitted_pictures(result, run_directory):
    pictures = kept_pictures(run_directory, result)
    whole = len(render(result, pictures).encode())
    limit = whole - pictures.embedded_bytes // 3
    config = {**result.config, "report": {"images_per_prompt": 4, "max_mb": limit / 1_000_000}}
    html = render(replace(result, config=config), pictures)
    assert len(html.encode()) <= limit
    assert "To stay under the size limit" in html


def test_a_card_cannot_make_the_report_embed_a_file_from_elsewhere(result, run_directory):
    latent = str(result.lens["features"][0]["latent"])
    escaping = replace(result, lens={**result.lens, "top_images": {latent: ["../audit.json", "/etc/hostname"]}})
    assert kept_pictures(run_directory, escaping).features == {}


def test_pictures_of_a_key_that_was_not_kept_are_left_out(result, run_directory):
    shown = kept_pictures(run_directory, result).shown
    assert ImageKey("doctor", 3) in shown
    assert ImageKey("doctor", 4) not in shown


def test_rendering_twice_gives_the_same_bytes(result, run_directory):
    first = write_report(run_directory.path).read_bytes()
    assert write_report(run_directory.path).read_bytes() == first


def test_a_directory_without_a_result_is_named_with_its_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the audit to its end"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:pw@db/mlflow", "postgresql://***@db/mlflow"),
        ("https://host/a?token=abc&x=1", "https://host/a?token=***&x=1"),
        ("sqlite:///runs/mlflow.db", "sqlite:///runs/mlflow.db"),
        ("mail ann@example.test", "mail ann@example.test"),
    ],
)
def test_secrets_in_addresses_are_hidden(text, shown):
    assert redact(text) == shown


def test_a_password_in_the_config_does_not_reach_the_report(result):
    config = {**result.config, "tracking": {"uri": "https://ann:hunter2@example.test"}}
    assert "hunter2" not in render(replace(result, config=config), NONE)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0.00"), (6.2, "6.20"), (0.0651, "0.065"), (-0.25, "−0.250"), (3e-5, "0.000030")],
)
def test_figures_keep_the_digits_that_matter(value, text):
    assert number(value) == text


def rows_of(page, caption):
    """The cells of the table with this caption, row by row, without its head."""
    body = page.partition(f"<caption>{caption}")[2].partition("<tbody>")[2].partition("</tbody>")[0]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in body.split("</tr>")[:-1]]


def test_agreement_has_its_interval_and_what_is_missing_is_said(seconded):
    rows = rows_of(render(seconded, NONE), "Images in which both judges see the same group")
    assert [row[:3] for row in rows] == [
        ["clip", BASELINE, "gender"],
        ["clip", BASELINE, "age"],
        ["clip", "difflens-gender", "gender"],
    ]
    assert rows[0][3:] == ["70\xa0% [67, 73]", "0.400 [0.340, 0.460]", "1008"]
    assert rows[1][3:] == ["no common image", "undefined", "0"]
    assert rows[2][4] == "undefined"


def test_a_finding_that_another_judge_contradicts_is_marked(seconded):
    html = render(seconded, NONE)
    cells = {tuple(row[:3]): row[-1] for row in rows_of(html, "Departures from the target")}
    for view in seconded.second_views:
        cell = cells[view.prompt_id.replace("_", " "), view.arm, view.attribute]
        assert ("⚠ opposite" in cell) == (view.direction == "opposite")
        assert f"clip sees {view.group} {100 * view.share.value:.0f}" in cell
    assert {cell for key, cell in cells.items() if key[2] != "gender"} == {"not asked"}
    text = " ".join(Page(html).text)
    assert "⚠ 2 of" in text
    assert "departures are contradicted by another judge" in text


def test_the_report_explains_second_judges(seconded):
    text = " ".join(Page(render(seconded, NONE)).text)
    assert "Agreement is not accuracy" in text
    assert "zero-shot CLIP" not in text
    opinions = [{"name": "clip", "source": "zero-shot"}]
    named = replace(seconded, config={**seconded.config, "second_opinions": opinions})
    assert "“clip” is zero-shot CLIP" in " ".join(Page(render(named, NONE)).text)


def test_without_a_second_judge_there_is_no_such_section(result):
    text = " ".join(Page(render(result, NONE)).text)
    assert "second opinion" not in text.lower()


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (None, "–"),
        (Estimate(0.25, 0.125, 0.375, 8), "0.250 [0.125, 0.375]"),
        (Measurement(0.25, 8, "metric:fid"), "0.250"),
        (Change(-0.25, -0.5, 0.0, 8, 0.125, 0.04), "−0.250 [−0.500, 0.00]"),
    ],
)
def test_a_figure_has_the_same_format_for_every_record(figure, text):
    assert figure_text(figure) == text


def test_a_shift_is_shown_once_with_the_shift_by_chance(page):
    assert "".join(page.text).count("total variation between the arms' shares") == 1
    assert not [text for text in page.text if "moved, total variation" in text]
