"""A terminal is sent text and nothing that it would act on."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from audit.storage.outside.safe_text import printable


def test_what_clears_a_screen_or_turns_text_around_is_shown_as_an_escape():
    assert printable("a\x1b[2J\u202eb\u2028\r\n\x9b") == r"a\x1b[2J\u202eb\u2028\r\n\x9b"


def test_letters_of_any_script_stay():
    text = "Ärztin 医師 محامٍ 12\N{NO-BREAK SPACE}% 😀"
    assert printable(text) == text


@given(st.text(alphabet=st.characters()))
def test_whatever_comes_in_is_one_line_that_can_be_encoded(text):
    shown = printable(text)
    shown.encode("utf-8")
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in shown)
    assert printable(shown) == shown
