"""Secrets are removed from text, whether they are recognised by their form or by the name of their variable."""

import logging

import pytest

from audit.storage.outside.safe_text import SecretFree, redact, redact_tree, secret_values


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:p@ss@host/db", "postgresql://***@host/db"),
        ("s3://KEY:secret@bucket/runs", "s3://***@bucket/runs"),
        ("http://h/a?X-Amz-Credential=AK%2F1&x=1&X-Amz-Signature=ab12", "http://h/a?X-Amz-Credential=***&x=1&X-Amz-Signature=***"),
        ("aws_secret_access_key = wJalr/XU", "aws_secret_access_key = ***"),
        ("host=h password='hunter2' user=u", "host=h password='***' user=u"),
        ("AccountKey=eA==;Endpoint=e", "AccountKey=***;Endpoint=e"),
        ('{"client_secret": "a b", "key": 1}', '{"client_secret": "***", "key": 1}'),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Basic ***"),
        ("authorization failed for Bearer abcdefghijklmnop.qr", "authorization failed for Bearer ***"),
        ("denied to AKIAIOSFODNN7EXAMPLE", "denied to ***"),
        ("tried hf_abcdefghijklmnopqrstuvwx", "tried ***"),
    ],
)  # fmt: skip
def test_a_secret_is_recognised_by_its_form(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a face photo of a secretary: 12 of 64",
        "expected a value under tokenizer: found 'x'",
        "sqlite:///runs/mlflow.db",
        "s3://bucket/runs/a",
        "tokens: 5",
        "basic research of nothing@all",
    ],
)
def test_ordinary_text_is_unchanged(text):
    assert redact(text) == text


def test_the_value_of_a_secret_variable_is_hidden_everywhere(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "correct-horse")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "correct-horse-battery")
    plain = {"a": ["x correct-horse y", 3], "b": {"c": "correct-horse-battery"}, "d": None}
    assert redact_tree(plain) == {"a": ["x *** y", 3], "b": {"c": "***"}, "d": None}


def test_only_the_host_of_a_webhook_is_kept():
    plain = {"alerts": {"webhook": "https://hooks.example.test/services/T1/B2/x3?y=4", "secret_env": "HOOK_SECRET"}}
    assert redact_tree(plain) == {"alerts": {"webhook": "https://hooks.example.test/***", "secret_env": "HOOK_SECRET"}}


def test_a_short_value_or_a_file_path_is_not_a_secret(tmp_path):
    environment = {"A_TOKEN": "yes", "TOKEN_FILE": str(tmp_path), "HOME": "/home/somebody", "B_TOKEN": "long-enough"}
    assert secret_values(environment) == ("long-enough",)


def test_log_records_and_tracebacks_do_not_show_secrets():
    try:
        raise OSError("no answer from http://ann:hunter2@h/")
    except OSError as error:
        caught = (OSError, error, error.__traceback__)
    record = logging.LogRecord("a", logging.INFO, "f", 1, "asked %s", ("http://bob:hunter2@h/",), caught)
    shown = SecretFree("%(message)s").format(record)
    assert "asked http://***@h/" in shown
    assert "no answer from http://***@h/" in shown
    assert "hunter2" not in shown
