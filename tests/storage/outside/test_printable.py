"""Printable text contains no control characters."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from audit.storage.outside.safe_text import printable


def test_control_and_bidirectional_characters_are_shown_as_escapes():
    assert printable("a\x1b[2J\u202eb\u2028\r\n\x9b") == r"a\x1b[2J\u202eb\u2028\r\n\x9b"


def test_letters_of_all_scripts_are_kept():
    text = "Ärztin 医師 محامٍ 12\N{NO-BREAK SPACE}% 😀"
    assert printable(text) == text


@given(st.text(alphabet=st.characters()))
def test_any_text_becomes_one_line_that_can_be_encoded(text):
    shown = printable(text)
    shown.encode("utf-8")
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in shown)
    assert printable(shown) == shown
