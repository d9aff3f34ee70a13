"""A look inside a model in a real MLflow store: one run with figures and page, which a second delivery updates."""

import json
import shutil

import pytest

from audit.records.estimates import Estimate
from audit.records.inside.concepts import Concepts, LayoutFigures, Pictures
from audit.storage.run_directory import RunDirectory, UnreadableRunError
from reports.exploration.files import write_files
from reports.tracking.handover import Letter, Messenger
from reports.tracking.inside import INSIDE_TAG, KIND_TAG, kind_of, log_inside
from tests.reports.exploration.test_page import an_exploration
from tests.results.compositions.test_summary import summary

mlflow = pytest.importorskip("mlflow")
EXPERIMENT = "audits"


@pytest.fixture
def uri(migrated_database, tmp_path):
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def store(uri, tmp_path):
    client = mlflow.MlflowClient(tracking_uri=uri)
    client.create_experiment(EXPERIMENT, artifact_location=str(tmp_path / "artifacts"))
    return client


@pytest.fixture
def exploration(tmp_path):
    place = tmp_path / "explorations" / "trial-1"
    write_files(an_exploration(), place)
    return RunDirectory(place)


def runs_in(client):
    [experiment] = [one for one in client.search_experiments() if one.name == EXPERIMENT]
    return client.search_runs([experiment.experiment_id])


def test_an_exploration_is_one_run_with_its_check_and_its_files(exploration, store, uri):
    address = log_inside(exploration, uri=uri, experiment=EXPERIMENT)
    [run] = runs_in(store)
    assert address.endswith(run.info.run_id)
    assert (run.data.tags[INSIDE_TAG], run.data.tags[KIND_TAG]) == (exploration.path.name, "exploration")
    found = an_exploration()
    assert run.data.metrics["prompts"] == len(found.texts)
    assert run.data.metrics["gender/score_vs_share_spearman"] == found.checked[0].rho
    assert run.data.params["hookpoint"] == found.hookpoint
    files = {one.path for one in store.list_artifacts(run.info.run_id)}
    assert {"exploration.html", "exploration.json", "scores.csv"} <= files
    assert run.info.status == "FINISHED"


def test_a_second_delivery_updates_the_run_and_adds_nothing_to_a_history(exploration, store, uri):
    first = log_inside(exploration, uri=uri, experiment=EXPERIMENT)
    assert log_inside(exploration, uri=uri, experiment=EXPERIMENT) == first
    [run] = runs_in(store)
    assert len(store.get_metric_history(run.info.run_id, "prompts")) == 1


def test_concepts_have_the_agreement_of_each_reader_at_its_first_step(tmp_path, store, uri):
    place = RunDirectory(tmp_path / "concepts" / "study-1")
    place.write_json("concepts.json", concepts().as_data())
    log_inside(place, uri=uri, experiment=EXPERIMENT)
    [run] = runs_in(store)
    assert run.data.metrics["layout/prior/iou_first_step"] == 0.5
    assert run.data.metrics["layout/concepts/mid_block/conditional/iou_first_step"] == 0.6
    assert run.data.tags[KIND_TAG] == "concepts"


def test_compositions_have_the_share_of_images_told_apart_and_every_change_in_company(tmp_path, store, uri):
    place = RunDirectory(tmp_path / "compositions" / "study-1")
    found = summary()
    place.write_json("compositions.json", found.as_data())
    log_inside(place, uri=uri, experiment=EXPERIMENT)
    [run] = runs_in(store)
    assert run.data.metrics["doctor-and-nurse/told_apart"] == 1.0
    assert run.data.metrics["doctor-and-nurse/nurse/gender/female/change_in_company"] == 1.0
    counted = sum(one.found for one in found.company_once)
    assert counted == sum(one.found for one in found.company) / 2 > 0
    assert f"{counted} findings: company" in run.data.tags["mlflow.note.content"]
    assert run.data.tags[KIND_TAG] == "compositions"


def test_the_separate_process_delivers_it_too(exploration, store, uri):
    with Messenger(60) as messenger:
        receipt = messenger.deliver(Letter(exploration.path, uri, EXPERIMENT))
    assert not receipt.problem
    assert receipt.url == log_inside(exploration, uri=uri, experiment=EXPERIMENT)


def test_something_else_and_half_a_file_are_refused_in_words(tmp_path, uri):
    place = RunDirectory(tmp_path / "other")
    assert kind_of(place) is None
    with pytest.raises(UnreadableRunError, match="expected an exploration, concepts or compositions"):
        log_inside(place, uri=uri, experiment=EXPERIMENT)
    data = concepts().as_data()
    del data["layout"]
    place.write_json("concepts.json", json.loads(json.dumps(data)))
    with pytest.raises(ValueError, match=r"concepts\.json: expected concepts, found something else \('layout'\)"):
        log_inside(place, uri=uri, experiment=EXPERIMENT)


def concepts():
    """A study of one block at two steps, without stages."""

    def layout(reader, step, value, block="", half=""):
        mean = Estimate(value, value - 0.1, value + 0.1, 8)
        return LayoutFigures(reader, block, half, step, mean, {"face": mean}, None, None, None)

    read = [layout("concepts", step, 0.6 + step / 100, "mid_block", "conditional") for step in (5, 0)]
    return Concepts(
        name="study",
        model="sha256:1",
        segmenter="drawings",
        parts=("face",),
        blocks=("mid_block",),
        steps=(0, 5),
        total_steps=10,
        prompts=2,
        images=8,
        measured=4,
        dictionaries=(),
        layout=(layout("prior", -1, 0.5), *read),
        followed=(),
        pictures=Pictures("mid_block", (0, 5), (), (), (), ()),
        stages=None,
        seed=0,
    )
