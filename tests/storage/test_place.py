"""A place is read as people write it, and no address holds a credential."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from audit.storage.place import ObjectPath, PlaceError, place_of, sqlite_file, sqlite_uri


def test_a_path_stays_a_path_and_an_address_is_joined_like_one():
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
        ("s3://user:hunter2secret@bucket/runs", "give credentials through the environment"),
        ("s3://bucket/runs?token=hunter2secret", "give credentials through the environment"),
        ("s3://bucket/runs#hunter2secret", "give credentials through the environment"),
        ("s3://bucket/a\nb", "give credentials through the environment"),
        ("ftp://bucket/runs", "expected a path or an address with s3, gs, abfs, file, found one with 'ftp'"),
        ("s3:///runs", "name the bucket, and no empty or dotted part"),
        ("s3://bucket/../other", "name the bucket, and no empty or dotted part"),
        ("s3://", "name the bucket, and no empty or dotted part"),
        ("file://server/runs", "expected file:/// and an absolute path"),
    ],
)
def test_other_addresses_are_refused_without_repeating_a_secret(text, message):
    with pytest.raises(PlaceError, match=message) as caught:
        place_of(text)
    assert "hunter2" not in str(caught.value)


AWKWARD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(directory=AWKWARD | st.text("%?#&+:;20abAB/. ", min_size=1, max_size=12))
def test_a_database_keeps_its_path_in_its_uri_whatever_characters_are_in_it(directory):
    file = Path("/") / directory / "mlflow.db"
    assert make_url(sqlite_uri(file)).database == str(file)
    assert sqlite_file(sqlite_uri(file)) == file


def test_a_uri_of_the_user_s_means_the_file_that_sqlalchemy_opens():
    for uri in ("sqlite:///a%20b/m.db", "sqlite:////abs/a%3Fb/m.db?timeout=3", "sqlite+pysqlite:///m.db"):
        assert sqlite_file(uri) == Path(make_url(uri).database)
    for uri in ("sqlite://", "sqlite:///", "http://host", "mysql:///a"):
        assert sqlite_file(uri) is None
