"""Paths and addresses are parsed, and an address with a credential is refused."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from audit.storage.place import ObjectPath, PlaceError, place_of, sqlite_file, sqlite_uri


def test_a_path_stays_a_path_and_an_address_is_joined_like_a_path():
    assert place_of("runs/a") == Path("runs/a")
    assert place_of("file:///data/runs") == Path("/data/runs")
    place = place_of("s3://bucket/team/runs/")
    assert str(place / "weekly") == "s3://bucket/team/runs/weekly"
    assert ((place / "weekly").name, (place / "weekly").parent) == ("weekly", place)
    assert place.absolute() == place
    assert place_of(str(place)) == pickle.loads(pickle.dumps(place)) == place
    assert place_of("gs://bucket").parent == ObjectPath("gs", "bucket")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3://user:hunter2secret@bucket/runs", "set credentials in the environment"),
        ("s3://bucket/runs?token=hunter2secret", "set credentials in the environment"),
        ("s3://bucket/runs#hunter2secret", "set credentials in the environment"),
        ("s3://bucket/a\nb", "set credentials in the environment"),
        ("ftp://bucket/runs", "expected a path or an address with s3, gs, abfs, file, found one with 'ftp'"),
        ("s3:///runs", "name the bucket, and leave out empty parts"),
        ("s3://bucket/../other", "name the bucket, and leave out empty parts"),
        ("s3://", "name the bucket, and leave out empty parts"),
        ("file://server/runs", "expected file:/// and an absolute path"),
    ],
)
def test_other_addresses_are_refused_without_repeating_a_secret(text, message):
    with pytest.raises(PlaceError, match=message) as caught:
        place_of(text)
    assert "hunter2" not in str(caught.value)


AWKWARD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(directory=AWKWARD | st.text("%?#&+:;20abAB/. ", min_size=1, max_size=12))
def test_the_uri_of_a_database_keeps_any_path(directory):
    file = Path("/") / directory / "mlflow.db"
    assert make_url(sqlite_uri(file)).database == str(file)
    assert sqlite_file(sqlite_uri(file)) == file


def test_the_file_of_a_uri_is_the_file_that_sqlalchemy_opens():
    for uri in ("sqlite:///a%20b/m.db", "sqlite:////abs/a%3Fb/m.db?timeout=3", "sqlite+pysqlite:///m.db"):
        assert sqlite_file(uri) == Path(make_url(uri).database)
    for uri in ("sqlite://", "sqlite:///", "http://host", "mysql:///a"):
        assert sqlite_file(uri) is None
