"""Untrusted JSON is one object of limited size, or causes one clear error."""

import pytest

from audit.storage.outside.json_object import json_object, read_json_object


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"[" * 100_000, "hundreds of levels of nesting"),
        (b'{"a":' * 100_000, "hundreds of levels of nesting"),
        (b'{"a": 1', "invalid JSON"),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b'{"a": -Infinity}', "-Infinity is not a finite number"),
        (b'{"a": 1e999}', "1e999 is not a finite number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
        (b'{"a": "\xff"}', "invalid JSON"),
        (b"[1]", "a list instead of an object"),
        (b"{}" + b" " * 100, "more than 64 bytes"),
        (b"", "invalid JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_hostile_document_is_refused(data, found):
    limit = 64 if data.endswith(b"   ") else 1_000_000
    with pytest.raises(ValueError, match=f"^x: expected a card, found .*{found}"):
        json_object(data, "x: expected a card", limit)


def test_a_valid_object_is_returned_unchanged():
    assert json_object(b'{"a": [1, -2.5, null, "\\u00e9"], "seed": 9223372036854775807}', "") == {
        "a": [1, -2.5, None, "é"],
        "seed": 2**63 - 1,
    }


def test_a_file_is_read_only_up_to_its_limit(tmp_path):
    with pytest.raises(ValueError, match="/dev/zero: expected a card, found more than 1000 bytes"):
        read_json_object(type(tmp_path)("/dev/zero"), "a card", 1000)
    with pytest.raises(ValueError, match="absent: expected a card, found no readable file"):
        read_json_object(tmp_path / "absent", "a card")
