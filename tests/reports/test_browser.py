"""Tests the report in Chromium: from disk and in MLflow's sandbox, without scripts and network."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import reports
from reports.html import kept_pictures, render, write_report

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser
SCROLLING_MS = 60_000
"""The page scrolls smoothly, and slowly on a busy machine."""
STYLES = Path(reports.__file__).parent / "templates" / "report.css"
STRIPS = """() => Array.from(document.querySelectorAll(".strip"), strip =>
  Array.from(strip.querySelectorAll("img"), image => {
    const box = image.getBoundingClientRect()
    return {top: Math.round(box.top), width: Math.round(box.width)}
}))"""
TRACKER = "http://tracker.test/"
SANDBOX = '<!doctype html><title>artifact</title><iframe sandbox="allow-scripts" width="1200" height="800"></iframe>'


@pytest.fixture(scope="module")
def report(run_directory):
    return write_report(run_directory.path)


@pytest.fixture
def open_report(browser, report):
    """Opens the report from disk at a width without scripts, and records every request."""
    contexts = []

    def opened(width=1280, **options):
        context = browser.new_context(java_script_enabled=False, viewport={"width": width, "height": 860}, **options)
        contexts.append(context)
        page = context.new_page()
        page.requested, page.complaints = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        context.route(lambda url: not url.startswith(("file:", "data:")), lambda route: route.abort())
        page.goto(report.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


def test_nothing_is_requested_but_the_file_itself(open_report, report):
    page = open_report()
    outside = [url for url in page.requested if not url.startswith("data:image/webp")]
    assert outside == [report.as_uri()]
    assert page.complaints == []


def test_each_chart_has_a_title_and_a_table(open_report):
    page = open_report()
    charts = page.locator("svg").all()
    assert len(charts) >= 10
    for chart in charts:
        assert chart.get_attribute("role") == "img"
        assert chart.locator("> title").text_content().strip()
        assert chart.locator("> desc").text_content().strip()
    assert page.locator("figure:has(svg)").count() == len(charts) == page.locator("figure:has(svg):has(table)").count()


def test_every_image_is_decoded(open_report):
    page = open_report()
    sizes = page.evaluate(
        "Promise.all([...document.images].map(image => image.decode().then(() => image.naturalWidth)))"
    )
    assert len(sizes) > 100
    assert min(sizes) > 0


def test_paired_images_are_in_a_row_and_have_one_size(open_report):
    boxes = open_report().evaluate(STRIPS)
    assert len(boxes) > 10
    for images in boxes:
        assert len({image["top"] for image in images}) == 1
    assert len({image["width"] for images in boxes for image in images}) == 1


def test_no_rule_of_the_stylesheet_undoes_another():
    """Two rules with one selector come from two pages that named different things alike."""
    outside_media = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", "", STYLES.read_text())
    selectors = Counter(selector.strip() for selector in re.findall(r"([^{}]+)\{", outside_media))
    assert [selector for selector, times in selectors.items() if times > 1] == []


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_never_scrolls_sideways(open_report, width, scheme):
    page = open_report(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_answer_is_on_the_first_screen(open_report):
    page = open_report()
    for answer in ("h1", ".verdict", ".tiles", ".hero svg"):
        box = page.locator(answer).first.bounding_box()
        assert box["y"] + box["height"] <= 860, answer


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(open_report, scheme):
    page = open_report(color_scheme=scheme)
    ratios = page.evaluate(CONTRASTS)
    assert len(ratios) > 20
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


def test_details_open_without_script(open_report):
    page = open_report()
    table = page.locator(".hero details table")
    assert not table.is_visible()
    page.locator(".hero summary").click()
    assert table.is_visible()


def test_the_table_of_contents_leads_to_its_sections(open_report):
    page = open_report(reduced_motion="reduce")
    heading = page.locator("#provenance")
    assert heading.bounding_box()["y"] > 5000
    page.locator("nav a", has_text="Provenance").click()
    assert 0 <= heading.bounding_box()["y"] < 860


def test_print_shows_the_tables_that_the_screen_hides(open_report):
    page = open_report(720)
    page.emulate_media(media="print")
    table = page.locator("figure:has(#share-gender-title) table")
    assert table.evaluate("table => table.getBoundingClientRect().height") > 100
    assert not page.locator("nav").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 720


def test_it_works_inside_the_sandbox_of_mlflow(browser, report):
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    page.route(TRACKER, lambda route: route.fulfill(content_type="text/html", body=SANDBOX))
    page.goto(TRACKER)
    page.evaluate(
        """html => {
            document.querySelector("iframe").src = URL.createObjectURL(new Blob([html], {type: "text/html"}));
        }""",
        report.read_text(),
    )
    frame = page.frame_locator("iframe")
    frame.locator("footer").wait_for()
    # Chromium refuses links to sections in such a frame; the focus goes there all the same.
    frame.locator("nav a", has_text="Provenance").click()
    sync_api.expect(frame.locator("#provenance")).to_be_in_viewport(timeout=SCROLLING_MS)
    frame.locator("nav a", has_text="Answer").click()
    assert frame.locator("h1").text_content().startswith("The model draws")
    assert frame.locator(".hero svg").is_visible()
    frame.locator(".hero summary").click()
    assert frame.locator(".hero details table").is_visible()
    width = frame.locator(".strip img").first.evaluate("image => image.decode().then(() => image.naturalWidth)")
    page.close()
    assert width == 96
    assert [url for url in requested if not url.startswith(("blob:", "data:"))] == [TRACKER]


def test_a_hostile_prompt_does_not_run(browser, result, run_directory):
    template = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    hostile = replace(result, config={**result.config, "name": template, "prompts": {"template": template}})
    page = browser.new_page()
    page.set_content(render(hostile, kept_pictures(run_directory, hostile)))
    assert "owned" in page.locator("#method + ul").text_content()
    assert page.evaluate("document.title").endswith("bias audit · difflens-audit")
    assert page.locator("script, img[onerror]").count() == 0
    page.close()


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = color => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = color => {
    const [r, g, b] = rgb(color).map(value => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = node => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if (rgb(color)[3] === 255) return color;
    }
    return "white";
  };
  const found = {};
  const selector = "h1, h2, h3, p, li, a, summary, dt, dd, th, td, caption, figcaption, pre, span, svg text";
  for (const node of document.querySelectorAll(selector)) {
    const style = getComputedStyle(node);
    const onShape = node.matches("svg [class^=on]");
    const back = onShape ? getComputedStyle(node.previousElementSibling).fill : behind(node);
    const ink = node instanceof SVGElement ? style.fill : style.color;
    const [light, dark] = [luminance(ink), luminance(back)].sort((x, y) => y - x);
    found[`${node.tagName} ${node.getAttribute("class") || ""} ${ink} on ${back}`] = (light + 0.05) / (dark + 0.05);
  }
  return found;
}"""
"""Contrast ratio of every text with its background, WCAG 2.2 success criterion 1.4.3."""
