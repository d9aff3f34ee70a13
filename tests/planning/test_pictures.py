"""Tests that a folder or a manifest names the pictures of each prompt, and that every error in it is reported."""

from pathlib import Path

import pytest
from PIL import Image

from audit.config.sections import ModelConfig, PromptsConfig
from audit.planning.pictures import PictureErrors, picture_groups
from audit.planning.plan import images_of_prompts, prompts_of_model, shards_of_model


def save(path, colour=(10, 200, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)
    return path


def of_folder(path):
    return ModelConfig(source="images", folder=str(path))


@pytest.fixture
def manifest(tmp_path):
    """Return a writer of a manifest next to two pictures of a doctor and one of a nurse."""
    for name in ("a.png", "b.png", "nurses/c.jpg"):
        save(tmp_path / name)

    def write(text):
        (tmp_path / "pictures.csv").write_text(text, encoding="utf-8")
        return ModelConfig(source="images", manifest=str(tmp_path / "pictures.csv"))

    return write


def errors_of(model):
    with pytest.raises(PictureErrors) as caught:
        picture_groups(model)
    return [(error.line, error.column, error.message) for error in caught.value.errors]


def test_a_folder_is_an_occupation_and_its_files_in_order_are_the_indices(tmp_path):
    for name in ("police-officer/2.png", "police-officer/1.jpg", "police-officer/.hidden.png", "doctor/deep/x.webp"):
        save(tmp_path / name)
    doctor, officer = picture_groups(of_folder(tmp_path))
    assert (doctor.occupation, officer.occupation, officer.text) == ("doctor", "police officer", None)
    assert [picture.name for picture in officer.pictures] == ["police-officer/1.jpg", "police-officer/2.png"]
    prompts = prompts_of_model(of_folder(tmp_path), PromptsConfig(template="one {occupation}"))
    assert [(prompt.id, prompt.text) for prompt in prompts] == [
        ("doctor", "one doctor"),
        ("police-officer", "one police officer"),
    ]


def test_prompts_may_have_different_numbers_of_pictures(tmp_path):
    for number in range(5):
        save(tmp_path / "doctor" / f"{number}.png")
    save(tmp_path / "nurse" / "0.png")
    model, prompts = of_folder(tmp_path), PromptsConfig()
    assert images_of_prompts(model, prompts, prompts_of_model(model, prompts)) == {"doctor": 5, "nurse": 1}
    shards = shards_of_model(model, prompts, batch=3)
    assert [(shard.id, shard.indices) for shard in shards] == [
        ("doctor-0000", (0, 1, 2)),
        ("doctor-0001", (3, 4)),
        ("nurse-0000", (0,)),
    ]


def test_a_manifest_gives_texts_seeds_and_names(manifest):
    model = manifest(
        'path,prompt,seed,occupation\nb.png,"a doctor, smiling",7,doctor\nnurses/c.jpg,a nurse,,nurse\n\n'
        'a.png,"a doctor, smiling",0,doctor\n'
    )
    doctor, nurse = picture_groups(model)
    assert (doctor.text, [(p.name, p.seed, p.line) for p in doctor.pictures]) == (
        "a doctor, smiling",
        [("b.png", 7, 2), ("a.png", 0, 5)],
    )
    assert (nurse.pictures[0].seed, nurse.pictures[0].path.exists()) == (None, True)
    assert [p.text for p in prompts_of_model(model, PromptsConfig(occupations=("nurse",)))] == ["a nurse"]


def test_without_an_occupation_a_prompt_is_named_by_its_text(manifest):
    model = manifest("prompt,path\na photo of a doctor,a.png\na photo of a nurse,b.png\n")
    assert [(p.id, p.text) for p in prompts_of_model(model, PromptsConfig())] == [
        ("a-photo-of-a-doctor", "a photo of a doctor"),
        ("a-photo-of-a-nurse", "a photo of a nurse"),
    ]


def test_a_changed_manifest_is_read_again(manifest):
    assert len(picture_groups(manifest("path,prompt\na.png,one\n"))) == 1
    assert len(picture_groups(manifest("path,prompt\na.png,one\nb.png,another\n"))) == 2


def test_all_errors_of_a_manifest_are_reported_with_line_and_column(manifest):
    found = errors_of(
        manifest(
            "path,prompt,occupation,seed\n"
            "a.png,one text,doctor,1\n"
            "b.png,another text,doctor,-5\n"
            "./a.png,one text,doctor,1\n"
            "none.png,a nurse,nurse,2\n"
            "b.gif,a nurse,nurse,2\n"
            ",,,\n"
            "nurses/c.jpg,a nurse\n"
            'nurses/"c.jpg,a nurse,nurse,3\n'
            f"nurses/c.jpg,a \x1b[31mnurse,nurse,{9 * '1' * 500}\n"
        )
    )
    places = [(line, column) for line, column, _ in found]
    assert places == [
        (3, 7), (3, 27), (4, 1), (5, 1), (6, 1), (7, 1), (7, 2), (7, 3), (8, 1), (9, 1), (10, 14), (10, 14), (10, 33)
    ]  # fmt: skip
    said = "\n".join(message for _, _, message in found)
    for part in (
        "the prompt of 'doctor' in line 2 is 'one text'",
        "expected a whole number from 0 to 2^63 - 1, or nothing, found '-5'",
        "expected each picture once, found './a.png' again; the first is in line 2",
        "found no file at",
        "found 'b.gif'; save it as PNG",
        "expected 4 values (path, prompt, occupation, seed), found 2",
    ):
        assert part in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a header with path,prompt"),
        ("path,sed,prompt\n", "found 'sed'; did you mean 'seed'?"),
        ("path,path,prompt\n", "expected each column once"),
        ("path\na.png\n", "found no prompt; add it"),
        ("path,prompt\n", "expected pictures below the header, found none"),
    ],
)
def test_a_header_that_cannot_be_used_is_one_error(manifest, text, message):
    [(line, _, found)] = errors_of(manifest(text))
    assert line == 1
    assert message in found


def test_a_missing_manifest_or_folder_is_named(tmp_path):
    assert "check the path" in errors_of(ModelConfig(source="images", manifest=str(tmp_path / "no.csv")))[0][2]
    assert "check the path" in errors_of(of_folder(tmp_path / "none"))[0][2]


def test_all_errors_of_a_folder_are_reported(tmp_path):
    for name in ("stray.png", "doctor/1.png", "police_officer/1.png", "police-officer/1.png"):
        save(tmp_path / name)
    (tmp_path / "doctor/2.tiff").touch()
    (tmp_path / "doctor/3.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "nobody").mkdir()
    found = "\n".join(message for _, _, message in errors_of(of_folder(tmp_path)))
    for part in ("the picture stray.png beside them", "2.tiff", "the link is broken", "none in nobody", "a second for"):
        assert part in found


def test_an_empty_folder_is_refused(tmp_path):
    assert "expected a folder per prompt with pictures" in errors_of(of_folder(tmp_path))[0][2]
    assert Path(tmp_path).is_dir()
