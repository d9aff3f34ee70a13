"""An audit without any perceived group ends with one message about what the judge saw."""

import pytest

from audit.records.groups import GroupResult
from audit.records.result import AuditResult
from ray_jobs.run.summary import NoImagesError, unmade_images


def result(**statuses):
    counts = {"classified": 0, "no_face": 0, "failed": 0} | statuses
    rows = [GroupResult(None, arm, "gender", counts["classified"], counts, {}, None) for arm in ("baseline", "edited")]
    return AuditResult("run-1", {"model": {"source": "owner/name"}}, {}, (), tuple(rows), (), {})


def test_pictures_without_any_face_are_named_as_such():
    with pytest.raises(NoImagesError, match=r"none of 16 images has a perceived group \(14 no face, 2 failed\)"):
        unmade_images(result(no_face=7, failed=1))


def test_images_that_could_not_be_made_have_their_own_message():
    with pytest.raises(NoImagesError, match="none of 16 images could be made"):
        unmade_images(result(failed=8))


def test_one_classified_image_is_enough():
    assert unmade_images(result(classified=1, no_face=6, failed=1)) == 1 / 8
