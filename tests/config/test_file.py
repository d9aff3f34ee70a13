"""All errors in a config file are reported together, each with its line and column and a remedy."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.config.file import ConfigErrors, read_config
from audit.config.models.read import read_audits
from audit.config.problems import Problem
from audit.config.settings import AuditConfig

CONFIGS = Path(__file__).parents[2] / "configs"

SAMPLING = "steps, guidance, batch, scheduler, true_guidance, negative_prompt, height, width"


@pytest.fixture
def mistakes(tmp_path):
    """Return a function that reads a text and returns all errors, without the file's name."""

    def read(text, *overrides, checks=()):
        path = tmp_path / "audit.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigErrors) as caught:
            read_config(path, overrides, checks)
        return [str(error).removeprefix(f"{path}:") for error in caught.value.errors]

    return read


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_loads(path):
    assert read_audits(path).name.replace("-", "_") == path.stem


def test_all_errors_of_a_file_are_reported_together_in_file_order(mistakes):
    text = """\
name: trial
sampling:
  stepz: 25
  guidance: high
  batch: 8
  batch: 16
mitigations:
  - name: baseline
    attribute: gendr
    window: [0.5, 0.2]
  - nam: second
    attribute: age
workers: {count: fast}
"""
    assert mistakes(text) == [
        f"3:3: sampling.stepz: expected one of {SAMPLING}; found 'stepz'; did you mean 'steps'?",
        "4:13: sampling.guidance: expected a number, found 'high'",
        "6:3: sampling.batch: expected each key once, found 'batch' again after line 5; keep one",
        "8:11: mitigations[0].name: expected a unique name, found 'baseline', the name of the arm without "
        "intervention; rename it",
        "9:16: mitigations[0].attribute: expected an audited attribute (gender, age, skin_tone), found 'gendr'; "
        "did you mean 'gender'?",
        "10:13: mitigations[0].window: expected the start of the window below its end, found [0.5, 0.2]",
        "11:5: mitigations[1].nam: expected one of name, attribute, target, if_needed, window, "
        "reverse_step, project, method, edit, others, strength; found 'nam'; did you mean 'name'?",
        "11:5: mitigations[1].name: expected a value, found none; add it",
        "13:18: workers.count: expected 'auto' or a whole number, found 'fast'",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("seed: 1\n", "1:1: name: expected a value, found none; add it"),
        (
            "name: [a\n",
            "2:1: expected YAML, found a syntax error: while parsing a flow sequence, expected ',' or ']', but got",
        ),
        ("name: a\n\tseed: 1\n", "2:1: expected YAML"),
        ("name: a\n--- \nname: b\n", "2:1: expected YAML, found a syntax error: expected a single document"),
        ("", "1:1: expected an audit, found an empty file; begin with name:"),
        ("- a\n", "1:1: expected keys and values, found a list of 1; begin with name:"),
        ("name: a\nseed: one\n", "2:7: seed: expected a whole number, found 'one'"),
        ("name: a\nseed: -1\n", "2:7: seed: expected at least 0, found -1"),
        ("name: a\nseed: 99999999999999999999\n", "2:7: seed: expected a whole number, found 1e+20"),
        ("name: a\nsampling:\n", "2:10: sampling: expected keys and values, found nothing"),
        ("name: a\nprompts: {attribution: yes}\n", "2:24: prompts.attribution: expected true or false, found 'yes'"),
        ("name: a\nmodel: {dtype: float3}\n", "2:16: model.dtype: expected 'float32', 'float16' or 'bfloat16', found"),
        (
            "name: a b\n",
            "1:7: name: expected letters, digits, '.', '_' and '-', starting with a letter or digit, found 'a b'",
        ),
        (
            "name: a\nattributes: {age: [old, 'a&b']}\n",
            "2:25: attributes.age[1]: expected letters, digits, '_', '+', '-' and spaces, starting with a letter or "
            "digit, found 'a&b'",
        ),
        ("name: a\nattributes: {age: [5]}\n", "2:19: attributes.age: expected 2 or more items, found a list of 1"),
        ("name: a\nattributes: {age: [old]}\n", "2:19: attributes.age: expected 2 or more items, found a list of 1"),
        ("name: a\nattributes: {'?': [x, y]}\n", "2:14: attributes.?: expected a name of letters, digits"),
        ("name: a\nprompts:\n  occupations: [b, b]\n", "3:16: prompts.occupations: expected each value once, found b"),
        (
            "name: a\nexplore:\n  stress: {guidance: [2, 2.0]}\n",
            "3:22: explore.stress.guidance: expected each value once, found 2.0 more than once",
        ),
        (
            "name: a\nmitigations:\n- {name: m, method: prompt, attribute: gender, blocks: [mid_block, mid_block]}\n",
            "3:56: mitigations[0].blocks: expected each value once, found mid_block more than once",
        ),
        (
            "name: a\nprompts: {occupations: 3}\n",
            "2:24: prompts.occupations: expected 'all', 'none' or a list of names, found 3",
        ),
        (
            "name: a\ntargets: {gender: even}\n",
            "2:19: targets.gender: expected 'uniform', a share for each group, or csv: with a file, found 'even'",
        ),
        (
            "name: a\ntargets: {gender: 3}\n",
            "2:19: targets.gender: expected 'uniform', a share for each group, or csv:",
        ),
        ("name: a\ntargets: {gender: {female: 2}}\n", "2:28: targets.gender.female: expected at most 1.0, found 2"),
        (
            "name: a\ntargets:\n  gender: {csv: x.csv, mapping: {}}\n",
            "3:24: targets.gender.mapping: expected one of csv, categories; found 'mapping'",
        ),
        (
            "name: a\nworkers:\n  resources: {fast_disk: 1, CPU: 2}\n",
            "3:34: workers.resources.CPU: expected a custom resource of the cluster, found 'CPU', which is built into "
            "Ray; set workers.threads instead",
        ),
        (
            "name: a\nworkers: {resources: {GPU: 1}}\n",
            "2:28: workers.resources.GPU: expected a custom resource of the cluster, found 'GPU', which is built into "
            "Ray; set workers.gpus_per_worker instead",
        ),
        (
            "name: a\nworkers: {gpus_per_worker: 1.5}\n",
            "2:28: workers.gpus_per_worker: expected a fraction of 1, in steps of 0.0001, or a whole number, "
            "found 1.5; Ray accepts no other quantity",
        ),
        (
            "name: a\nworkers: {gpus_per_worker: 0.00001}\n",
            "2:28: workers.gpus_per_worker: expected a fraction of 1, in",
        ),
        ("name: a\nworkers: {resources: {rack: 2.5}}\n", "2:29: workers.resources.rack: expected a fraction of 1, in"),
        ("name: !!python/name:os.system a\n", "1:7: name: expected no tag, found"),
        ("name: a\n? [b]\n: 1\n", "2:3: expected a word as key, found a list or mapping"),
        ("name: a\n<<: {seed: 1}\n", "2:1: <<: expected one of name, seed"),
        (b"name: a\nseed: \xff\n", "2:1: expected UTF-8 text, found the byte 0xff; save the file as UTF-8"),
        (b"name: a\x07b\n", "1:8: expected printable text, found the character U+0007; remove it"),
    ],
    ids=lambda value: str(value)[:24] if "expected" not in str(value) else "",
)
def test_an_error_is_reported_at_its_position(mistakes, text, mistake):
    assert mistakes(text)[0].startswith(mistake)


def test_a_tag_cannot_change_the_type_of_a_value(mistakes):
    assert "2:7: seed: expected int, found 'one'; remove the tag" in mistakes("name: a\nseed: !!int one\n")


def test_errors_caused_by_another_error_are_not_reported(mistakes):
    text = "name: 3\nattributes: {gender: [female]}\nmitigations: [{name: m, attribute: gender}]\n"
    assert mistakes(text) == [
        "1:7: name: expected text, found 3",
        "2:22: attributes.gender: expected 2 or more items, found a list of 1",
    ]


def test_an_item_keeps_its_index_when_another_is_removed(mistakes):
    text = "name: a\nmitigations:\n  - {nam: x}\n  - {name: ok, attribute: gendr}\n"
    assert mistakes(text)[-1].startswith("4:27: mitigations[1].attribute: expected an audited attribute")


def test_yaml_is_read_by_its_core_schema(tmp_path):
    path = tmp_path / "audit.yaml"
    path.write_text("name: no\nsampling: {guidance: 1e1}\nattributes: {answer: [yes, no]}\nlens: &l {k: 4}\n")
    config = read_config(path)
    assert (config.name, config.sampling.guidance, config.lens.k) == ("no", 10.0, 4)
    assert config.attributes == {"answer": ("yes", "no")}


def test_aliases_are_expanded_within_limits(mistakes, tmp_path):
    path = tmp_path / "alias.yaml"
    path.write_text("name: a\nattributes: {x: &g [f, m], y: *g}\n")
    assert read_config(path).attributes == {"x": ("f", "m"), "y": ("f", "m")}
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "expected at most 50000 values" in mistakes(bomb)[0]
    assert "expected at most 50000 values" in mistakes("name: &a [*a]\n")[0]
    assert "expected at most 20 levels" in mistakes("name: " + "[" * 5000)[0]


def test_a_missing_or_too_large_file_is_reported_without_a_line(tmp_path):
    with pytest.raises(ConfigErrors) as caught:
        read_config(tmp_path / "absent.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'absent.yaml'}: expected a readable YAML file, found none")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigErrors, match="expected a YAML file of at most 1000000 bytes"):
        read_config(large)


def test_overrides_replace_the_values_of_the_file(tmp_path):
    path = tmp_path / "audit.yaml"
    path.write_text("name: a\nsampling: {steps: 10}\nmitigations: [{name: m, attribute: age}]\nlens:\n")
    overrides = ["sampling.steps=7", "quality.clip=none", "mitigations.0.strength=2", "lens.k=3", "attributes.x=[a, b]"]
    config = read_config(path, [*overrides, "lens.attributes=[age, x]", "attributes.age=[b, c]", "model.revision="])
    assert (config.sampling.steps, config.quality.clip, config.lens.k, config.model.revision) == (7, "none", 3, None)
    assert config.mitigations[0].strength == 2
    assert config.attributes["x"] == ("a", "b")


@pytest.mark.parametrize(
    ("override", "mistake"),
    [
        ("sampling.steps=many", "--set sampling.steps: expected a whole number, found 'many'"),
        (
            "sampling.stepz=3",
            f"--set sampling.stepz: expected one of {SAMPLING}; found 'stepz'; did you mean",
        ),
        ("sampling={stepz: 3}", "--set sampling: sampling.stepz: expected one of steps"),
        ("sampling.steps", "--set sampling.steps: expected a.b=value"),
        ("=3", "--set =3: expected a.b=value"),
        ("name.x=3", "--set name.x: expected keys and values under name, found 'a'"),
        ("mitigations.1.name=x", "--set mitigations.1.name: expected an item of the list of 1 (from 0), found '1'"),
        ("name=[x", "--set name: expected YAML, found a syntax error"),
        ("name={x: 1, x: 2}", "--set name: x: expected each key once"),
    ],
)
def test_an_invalid_override_is_reported_as_the_user_wrote_it(mistakes, override, mistake):
    text = "name: a\nseed: -1\nmitigations: [{name: m, attribute: age}]\n"
    found = mistakes(text, override)
    assert found[0].startswith("2:7: seed:")
    assert found[1].startswith(mistake)


def test_problems_of_checks_are_reported_unless_their_inputs_have_errors(mistakes):
    def check(config: AuditConfig):
        yield Problem(("seed",), "reported")
        yield Problem(("model", "source"), "reported for a default")
        yield Problem(("output",), "not reported, its input is invalid", reads=(("sampling", "steps"),))
        yield Problem(("judge", "source"), "not reported, its input has a problem", reads=(("model", "source"),))
        yield Problem(("seed",), "reported too, at the same location", reads=(("seed",),))

    assert mistakes("seed: 3\nname: a\nsampling: {steps: x}\n", checks=[check]) == [
        "1:1: model.source: reported for a default",
        "1:7: seed: reported",
        "1:7: seed: reported too, at the same location",
        "3:19: sampling.steps: expected a whole number, found 'x'",
    ]


YAML_LIKE = st.text(alphabet="abnoseed:{}[]-,&*!?|>#'\"\n\t 019.é", max_size=60)
KEYS = st.sampled_from(
    ["name", "seed", "model", "sampling", "attributes", "mitigations", "lens", "steps", "gender", "x"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab ", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=YAML_LIKE | st.dictionaries(KEYS, VALUES, max_size=6).map(repr))
def test_any_text_gives_a_config_or_a_list_of_errors(tmp_path, text):
    path = tmp_path / "any.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        answer = read_config(path)
    except ConfigErrors as mistakes:
        answer = mistakes
    assert isinstance(answer, AuditConfig) or all(mistake.message for mistake in answer.errors)


def test_here_stands_for_the_directory_of_the_config(tmp_path, monkeypatch):
    (tmp_path / "bundle").mkdir()
    monkeypatch.chdir(tmp_path)
    Path("bundle/config.yaml").write_text(
        "name: trial\nmodel: {adapters: [{path: '{here}/a.safetensors'}]}\noutput: '{here}'\n"
    )
    read = read_config("bundle/config.yaml")
    assert read.model.adapters[0].path == f"{tmp_path}/bundle/a.safetensors"
    assert read.output == f"{tmp_path}/bundle"


def test_here_elsewhere_in_a_text_is_left_alone(tmp_path):
    (tmp_path / "audit.yaml").write_text("name: trial\noutput: 'runs/{here}'\nmodel: {world: '{hereafter}/x'}\n")
    read = read_config(tmp_path / "audit.yaml")
    assert (read.output, read.model.world) == ("runs/{here}", "{hereafter}/x")
