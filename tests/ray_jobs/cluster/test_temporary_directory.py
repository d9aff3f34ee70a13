"""Tests that a directory which Ray cannot use for its sockets is reported before Ray starts."""

import os
import socket

import pytest

from audit.config.sections import WorkersConfig
from ray_jobs.cluster.connection import ClusterError, connect
from ray_jobs.cluster.temporary_directory import SOCKET_BYTES, unusable_temporary_directory


def test_the_limit_is_that_of_the_operating_system(tmp_path):
    for length, fits in ((SOCKET_BYTES, True), (SOCKET_BYTES + 1, False)):
        path = f"{tmp_path}/".ljust(length, "x")
        with socket.socket(socket.AF_UNIX) as held:
            if fits:
                held.bind(path)
            else:
                with pytest.raises(OSError, match="too long"):
                    held.bind(path)


def test_a_directory_too_long_for_sockets_is_reported_with_its_length():
    obstacle = unusable_temporary_directory({"TMPDIR": "/tmp/".ljust(102, "x")})
    assert obstacle.startswith("expected at most ")
    assert "bytes in TMPDIR, found 102 (/tmp/xxx" in obstacle
    assert obstacle.endswith("set RAY_TMPDIR to another directory, for example RAY_TMPDIR=/tmp")
    assert "found 104" in unusable_temporary_directory({"TMPDIR": "/tmp/" + "\u00e9" * 49 + "x/"})


def test_the_longest_directory_that_is_let_through_is_one_that_ray_takes():
    from ray._private.utils import validate_socket_filepath

    room = int(unusable_temporary_directory({"TMPDIR": "/" + "x" * 200}).split()[3])
    longest = "/tmp/".ljust(room, "x")
    assert unusable_temporary_directory({"TMPDIR": longest}) is None
    sockets = f"{longest}/ray/session_2026-11-28_23-59-59_123456_{os.getpid()}/sockets"
    validate_socket_filepath(f"{sockets}/plasma_store")
    with pytest.raises(OSError, match="AF_UNIX"):
        validate_socket_filepath(f"{sockets}x/plasma_store")


def test_ray_s_own_variable_goes_first(tmp_path):
    long = "/tmp/".ljust(102, "x")
    assert unusable_temporary_directory({"TMPDIR": long, "RAY_TMPDIR": "/tmp"}) is None
    assert "in RAY_TMPDIR" in unusable_temporary_directory({"TMPDIR": "/tmp", "RAY_TMPDIR": long})
    assert unusable_temporary_directory({}) is None


def test_an_invalid_directory_is_reported():
    assert "expected an absolute path in TMPDIR, found 'tmp'" in unusable_temporary_directory({"TMPDIR": "tmp"})
    assert "found the file /etc/passwd" in unusable_temporary_directory({"TMPDIR": "/etc/passwd/x"})
    assert unusable_temporary_directory({"TMPDIR": "/tmp/not/there/yet"}) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_reported():
    assert "which cannot" in unusable_temporary_directory({"TMPDIR": "/"})


def test_nothing_is_started_there(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("TMPDIR", "/tmp/".ljust(102, "x"))
    with pytest.raises(ClusterError, match="bytes in TMPDIR, found 102"), connect(None, WorkersConfig(count=1)):
        pass
