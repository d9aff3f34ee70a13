"""No figure of an audit is what its measure cannot be: every estimate of audit.json, over random small audits."""

import json
import math
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.config.sections import GateConfig
from audit.measure.discrepancy.fairness import maximum
from audit.measure.discrepancy.group_measures import MEASURES
from audit.planning.targets import AuditTargets
from audit.records.attributes import Attribute
from audit.records.work import Prompt, Shard
from audit.results.summary import SummaryPlan, summarise
from audit.storage.rows import clip_d_columns, row_schema
from audit.storage.run_directory import RunDirectory
from reports.export.audit_json import from_json, to_csv, to_json
from reports.export.markdown import to_markdown
from reports.figures.pictures import Pictures
from reports.html import render

ATTRIBUTES = (Attribute("gender", ("female", "male")), Attribute("age", ("young", "adult", "old")))
ARMS = ("baseline", "mended")
TEXTS = {a.name: {group: (group,) for group in a.groups} for a in ATTRIBUTES}
GATES = (
    GateConfig(name="a", measure="fairness_discrepancy", attribute="gender", arm="mended", max=0.3),
    GateConfig(name="b", measure="share_difference", attribute="gender", arm="baseline", max=0.3),
    GateConfig(name="c", measure="effective_groups", attribute="age", arm="mended", min=2.0, prompt="each"),
    GateConfig(name="d", measure="kl_divergence", attribute="age", arm="baseline", max=0.1),
    GateConfig(name="e", measure="attribute_shift", attribute="age", arm="mended", max=0.1),
    GateConfig(name="f", measure="clip_i", arm="mended", min=0.9),
    GateConfig(name="g", measure="kid", arm="mended", max=0.1),
)


@st.composite
def audits(draw):
    """A small audit: how many prompts and images, how lopsided, how many images fail, which targets."""
    return {
        "prompts": draw(st.sampled_from([1, 2, 3, 8, 9])),
        "images": draw(st.integers(1, 9)),
        "concentration": draw(st.sampled_from([0.01, 0.3, 1.0, 50.0])),
        "failed": draw(st.sampled_from([0.0, 0.3, 0.9])),
        "same_arms": draw(st.booleans()),
        "uneven": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def row(rng, arm, prompt, index, shares, failed):
    base = {"arm": arm, "prompt_id": prompt, "index": index, "seed": index}
    scores = {"clip_i": None if arm == "baseline" else float(rng.uniform(0.95, 1)), "clip_t": float(rng.uniform(-1, 1))}
    scores |= {name: float(rng.uniform(-1, 1)) for name in clip_d_columns(ATTRIBUTES) if "male" in name}
    if rng.random() < failed:
        return base | {"status": "no_face"} | scores
    perceived = {}
    for attribute in ATTRIBUTES:
        code, sure = rng.choice(len(attribute.groups), p=shares[attribute.name]), rng.choice([1.0, 0.6])
        for place, group in enumerate(attribute.groups):
            rest = (1 - sure) / (len(attribute.groups) - 1)
            perceived[f"p_{attribute.name}_{group}"] = float(sure if place == code else rest)
    shown = {"p_prompt_shown": float(rng.random()), "features": rng.normal(size=2).tolist()}
    return base | {"status": "classified"} | perceived | scores | shown


def summarised(path, audit):
    rng = np.random.default_rng(audit["seed"])
    prompts = [Prompt(f"p{number}", "x", f"p{number}") for number in range(audit["prompts"])]
    shards = tuple(Shard(prompt, 0, tuple(range(audit["images"]))) for prompt in prompts)
    run = RunDirectory(path)
    run.create({"name": "test"}, {"torch": "x"})
    for shard in shards:
        spread = {a.name: rng.dirichlet([audit["concentration"]] * len(a.groups)) for a in ATTRIBUTES}
        spread = {name: np.nan_to_num(p, nan=0) for name, p in spread.items()}
        spread = {name: p / p.sum() if p.sum() else np.eye(len(p))[0] for name, p in spread.items()}
        first = [row(rng, "baseline", shard.prompt.id, index, spread, audit["failed"]) for index in shard.indices]
        if audit["same_arms"]:
            second = [one | {"arm": "mended", "clip_i": 1.0} for one in first]
        else:
            second = [row(rng, "mended", shard.prompt.id, index, spread, audit["failed"]) for index in shard.indices]
        run.write_shard(shard.id, pa.Table.from_pylist([*first, *second], schema=row_schema(ATTRIBUTES)))
    uneven = {prompt.id: {"gender": (0.9, 0.1), "age": (0.02, 0.03, 0.95)} for prompt in prompts}
    targets = AuditTargets(uneven if audit["uneven"] else {})
    plan = SummaryPlan(
        "r",
        ATTRIBUTES,
        shards,
        ARMS,
        targets,
        "net:clip",
        feature_signature="net:features",
        group_texts=TEXTS,
        gates=GATES,
    )
    return summarise(run, plan, reference=rng.normal(size=(7, 2)).astype(np.float32))


def spans(path, node, target):
    """What the estimate at a path of audit.json can be: the ends of its interval, and of its value."""
    names = [str(part) for part in path]
    if "measures" in names:
        span = MEASURES[names[-1]].span_of(np.array(target))
        return span.low, span.high
    if "fairness_discrepancy" in names or "mean_over_prompts" in names or "worst_prompt" in names:
        return 0.0, maximum(target)
    if names[0] == "clip_d":
        return (-2.0, 2.0) if names[-1] == "change" else (-1.0, 1.0)
    if names[0] == "off_path":
        return spans_off_path(names)
    if names[0] == "changes":
        most = maximum(target) ** 2 if names[-1] == "squared" else 1.0
        return min(-most, node["value"]), max(most, node["value"])  # without bias, so beyond the ends by chance
    if names[-1] in ("difference", "clip_i", "clip_t", "kappa"):
        return -1.0, 1.0
    if names[-1].startswith(("kid", "fid")):
        return min(0.0, node["value"]), math.inf
    return 0.0, 1.0  # shares, shifts, Cramér's V


def spans_off_path(names):
    """Distances have no upper end, everything else is a share; changes can have either sign."""
    most = math.inf if "distance" in names else 1.0
    return (-most if names[-1] == "change" else 0.0), most


def estimates(node, path=(), target=None):
    """Yield every figure with an interval, with where it is and the target of its row."""
    if isinstance(node, dict):
        if node.get("attribute") in ("gender", "age") and node.get("target"):
            target = list(node["target"].values())
        if node.get("low") is not None and node.get("value") is not None:
            yield path, node, target
        for name, part in node.items():
            yield from estimates(part, (*path, name), target)
    elif isinstance(node, list):
        for place, part in enumerate(node):
            yield from estimates(part, (*path, place), target)


TARGETS = {False: {"gender": [0.5, 0.5], "age": [1 / 3] * 3}, True: {"gender": [0.9, 0.1], "age": [0.02, 0.03, 0.95]}}
ROUNDING = 1e-12
"""The last digits of a root or a sum."""


def wrong(data, uneven):
    """Return the estimates that cannot be."""
    found = []
    for path, node, own in estimates({name: data[name] for name in data if name not in ("config", "verdicts")}):
        row = data[path[0]][path[1]] if isinstance(path[1], int) else {}
        target = own or TARGETS[uneven].get(row.get("attribute"), [0.5, 0.5])
        low, high = spans(path, node, target)
        inside = low - ROUNDING <= node["low"] and node["high"] <= high + ROUNDING
        if not (inside and node["low"] <= node["value"] <= node["high"]):
            found.append((path, node, (low, high)))
        beside = node.get("like_these")
        if beside and not low - ROUNDING <= beside["low"] <= beside["high"] <= high + ROUNDING:
            found.append((path, "like these", beside, (low, high)))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(audit=audits())
def test_every_interval_keeps_within_what_its_measure_can_be_and_holds_its_value(tmp_path_factory, audit):
    result = summarised(tmp_path_factory.mktemp("audit"), audit)
    data = json.loads(json.dumps(to_json(result)))
    assert wrong(data, audit["uneven"]) == []
    assert from_json(data).overall == from_json(json.loads(json.dumps(to_json(from_json(data))))).overall
    for verdict in result.verdicts:
        if verdict.value is not None:
            assert verdict.low <= verdict.value <= verdict.high or verdict.note, verdict
    texts = [json.dumps(data), to_csv(result)]
    if any(row.shares for row in result.results):
        texts.append(to_markdown(result))
    assert [_minus_zero(text) for text in texts] == [[]] * len(texts)


def _minus_zero(text):
    """Return numbers that are 0 with a sign: not dates, versions or ranges."""
    return re.findall(r"(?<![\w.\-−])[-−]0(?:\.0*)?(?![\w.%])", text)


def test_the_report_of_two_occupations_prints_no_impossible_figure(tmp_path):
    # A difference of shares of .500 [−5.85, 6.85], effective groups [−4.85, 7.85], KL [−.00023, …].
    audit = {"prompts": 2, "images": 8, "concentration": 1.0, "failed": 0.0, "same_arms": False, "uneven": False}
    page = render(summarised(tmp_path, audit | {"seed": 3}), Pictures({}, {}))
    section = page[page.index("means over occupations") :]
    table = section[: section.index("</table>")]
    numbers = [float(text.replace("−", "-")) for text in re.findall(r"[−-]?\d+\.\d+", table)]
    assert numbers
    assert all(-1 <= number <= 3 for number in numbers)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_reaches_the_ends_of_its_span_and_no_further(name):
    measure, rng = MEASURES[name], np.random.default_rng(0)
    for target in ((0.5, 0.5), (0.9, 0.1), (0.2, 0.3, 0.5), (1 / 3, 1 / 3, 1 / 3)):
        goal = np.array(target)
        span = measure.span_of(goal)
        shares = np.vstack(
            [rng.dirichlet(np.full(goal.size, 0.5), 500), np.eye(goal.size), np.full(goal.size, 1 / goal.size), goal]
        )
        values = measure.formula(shares, goal)
        assert values.min() >= span.low - 1e-9
        assert values.max() <= span.high + 1e-9
        if name not in ("total_variation", "jensen_shannon", "share_difference"):
            assert values.max() == pytest.approx(span.high, abs=0.2)
