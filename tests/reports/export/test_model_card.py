"""Tests that the Hugging Face hub reads the snippet as evaluation results of the model without intervention."""

from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from reports.export.model_card import to_model_card


def front(text):
    assert text.startswith("---\n")
    assert text.endswith("---\n")
    return yaml.safe_load(text.strip("-\n"))


def with_source(result, source):
    return replace(result, config=result.config | {"model": result.config["model"] | {"source": source}})


def test_the_hub_reads_every_figure(result, verdict):
    gated = replace(result, verdicts=(verdict("fail"),))
    found = ModelCard(to_model_card(with_source(gated, "owner/name"))).data
    assert found.model_name == "owner/name"
    kinds = [item.metric_type for item in found.eval_results]
    overall = [row for row in result.overall if row.arm == "baseline"]
    assert kinds.count("fairness_discrepancy") == len(overall) == 3
    assert kinds.count("share") == sum(len(row.shares) for row in overall)
    assert kinds.count("gate") == kinds.count("verdict") == 1
    assert {item.task_type for item in found.eval_results} == {"text-to-image"}
    shown = next(item for item in found.eval_results if item.metric_type == "fairness_discrepancy")
    assert shown.metric_value == pytest.approx(overall[0].mean_over_prompts.value, abs=1e-4)


def test_an_intervention_is_not_the_model(result, verdict):
    gated = replace(result, verdicts=(verdict("fail", arm="difflens-gender"),))
    metrics = front(to_model_card(gated))["model-index"][0]["results"][0]["metrics"]
    assert not [metric for metric in metrics if metric["type"] in ("gate", "verdict")]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/me/models/sd", "sd"),
        ("./sd", "sd"),
        ("https://me:secret@host/x", "https://***@host/x"),
        ("a: b\n- c", "a: b\n- c"),
    ],
)
def test_a_name_is_text_without_paths_and_secrets(result, source, name):
    text = to_model_card(with_source(result, source))
    assert front(text)["model-index"][0]["name"] == name
    assert "secret" not in text


def test_figures_of_the_calibration_model_say_so(result):
    assert "nothing about any published model" in to_model_card(result).replace("\n", " ").replace("  ", " ")
    assert "planted" not in to_model_card(with_source(result, "owner/name"))


def test_agreement_of_a_second_judge_is_that_of_the_baseline(seconded):
    found = ModelCard(to_model_card(with_source(seconded, "owner/name"))).data
    (shown,) = [item for item in found.eval_results if item.metric_type == "judge_agreement"]
    assert (shown.metric_value, shown.metric_args["n"], shown.metric_args["second_judge"]) == (0.4, 1008, "clip")
    assert "agreement is not accuracy" in shown.metric_name
