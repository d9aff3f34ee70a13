"""A file of weights holds tensors by name; a pickle that would run something is refused and does not run it."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from audit.models.files.state_file import read_state

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_both_forms_give_the_same_tensors(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    torch.save(STATE, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        found = read_state(tmp_path / name)
        assert {key: tensor.tolist() for key, tensor in found.items()} == {k: t.tolist() for k, t in STATE.items()}


@pytest.mark.parametrize("write", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))])
@pytest.mark.parametrize("name", ["evil.pt", "evil.safetensors"])
def test_a_pickle_that_runs_something_is_refused_and_does_not_run(tmp_path, write, name):
    write({"a": Runs(tmp_path / "ran")}, tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: expected weights and nothing else"):
        read_state(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("stored", [[1, 2], {"epoch": 3}, torch.zeros(2)])
def test_anything_but_tensors_by_name_is_refused(tmp_path, stored):
    torch.save(stored, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match="expected tensors by name"):
        read_state(tmp_path / "odd.pt")
