"""A line of a CSV file is split as by a CSV reader, and each value has its column."""

import csv

import pytest

from audit.storage.outside.csv_line import Value, csv_values


def test_every_value_has_the_column_at_which_it_starts_without_spaces():
    line = 'nurse, "women, adult",  0.8 ,"a ""quoted"" word"'
    values = csv_values(line)
    assert [value.text for value in values] == ["nurse", "women, adult", "0.8", 'a "quoted" word']
    assert [line[value.column - 1] for value in values] == ["n", '"', "0", '"']


def test_an_empty_value_has_a_column_too():
    assert csv_values("a,,b") == [Value("a", 1), Value("", 3), Value("b", 4)]


@pytest.mark.parametrize("line", ['a,"b', 'a,b"c,d"', 'a,"b"c'])
def test_a_quote_that_is_not_closed_or_inside_a_value_is_refused(line):
    with pytest.raises(csv.Error):
        csv_values(line)
