"""Random damages of a diffusers directory, and changes that are harmless.

The named damages are in :mod:`benchmarks.spoiled_models`; here the file, key, tensor and change are random.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.spoiled_models import ACCEPTED, NO_LIMIT, REFUSED, TEXT, UNET, VAE, change_tensors, published_with

Rng = np.random.Generator

WEIGHTS = (UNET, VAE, TEXT)
CONFIGS = (
    "model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json",
    "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json",
)  # fmt: skip
PARTS = ("unet", "vae", "text_encoder", "scheduler", "tokenizer")
_ODD = (
    None, True, False, 0, 1, 2, 3, 5, -1, 77, 1000, 10**30, 0.5, -0.25, 1e-9, float("nan"), float("inf"), "", "x",
    "silu", "linear", "linspace", "trailing", "v_prediction", "sample", "scaled_linear", [], [1], [8, 8], [8, 12],
    [4, 8], {}, {"a": 1}, "\x00", "é", [None, None], ["diffusers", "DDIMScheduler"], NO_LIMIT,
)  # fmt: skip


class NotHereError(Exception):
    """The target of the change no longer exists."""


Damage = Callable[[Path, Rng, Path], str]
"""Changes a model's directory, with parts of another model if needed. Returns a description."""


def _json(path: Path) -> dict:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise NotHereError from error
    if not isinstance(data, dict) or not data:
        raise NotHereError
    return data


def _here(model: Path, names: tuple[str, ...], rng: Rng) -> str:
    found = [name for name in names if (model / name).is_file()]
    if not found:
        raise NotHereError
    return str(rng.choice(found))


def _files(model: Path) -> tuple[str, ...]:
    return tuple(sorted(p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file()))


def _tensors(path: Path, change: Callable) -> None:
    try:
        change_tensors(path, change)
    except Exception as error:  # a file that another damage has truncated
        raise NotHereError from error


# ---- files and parts -----------------------------------------------------------------------------------------------


def _cut_file(model: Path, rng: Rng, _other: Path) -> str:
    name = _here(model, _files(model), rng)
    data = (model / name).read_bytes()
    left = int(rng.integers(0, max(1, len(data))))
    (model / name).write_bytes(data[:left])
    return f"cut {name} to {left} bytes"


def _delete_file(model: Path, rng: Rng, _other: Path) -> str:
    name = _here(model, _files(model), rng)
    (model / name).unlink()
    return f"deleted {name}"


def _delete_part(model: Path, rng: Rng, _other: Path) -> str:
    part = str(rng.choice(PARTS))
    shutil.rmtree(model / part, ignore_errors=True)
    return f"deleted {part}"


def _rename_file(model: Path, rng: Rng, _other: Path) -> str:
    path = model / _here(model, _files(model), rng)
    new = str(rng.choice([path.name.upper(), path.name + ".bak", "model.safetensors", "pytorch_model.bin", "x.json"]))
    path.rename(path.with_name(new))
    return f"renamed {path.relative_to(model)} to {new}"


def _rename_part(model: Path, rng: Rng, _other: Path) -> str:
    part = str(rng.choice(PARTS))
    new = str(rng.choice([part.upper(), f"{part}_2", "unet_ema"]))
    if not (model / part).is_dir() or (model / new).exists():
        raise NotHereError
    (model / part).rename(model / new)
    return f"renamed {part} to {new}"


def _swap_files(model: Path, rng: Rng, _other: Path) -> str:
    one, two = (model / _here(model, WEIGHTS + CONFIGS, rng) for _ in range(2))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    return f"swapped {one.relative_to(model)} and {two.relative_to(model)}"


def _foreign_file(model: Path, rng: Rng, other: Path) -> str:
    name = _here(other, _files(other), rng)
    (model / name).parent.mkdir(exist_ok=True)
    shutil.copyfile(other / name, model / name)
    return f"{name} of another model"


def _foreign_part(model: Path, rng: Rng, other: Path) -> str:
    part = str(rng.choice(PARTS))
    shutil.rmtree(model / part, ignore_errors=True)
    shutil.copytree(other / part, model / part)
    return f"{part} of another model"


def _flip_byte(model: Path, rng: Rng, _other: Path) -> str:
    path = model / _here(model, WEIGHTS, rng)
    data = bytearray(path.read_bytes())
    if len(data) < 16:
        raise NotHereError
    at = int(rng.integers(0, min(len(data), 4000)))
    data[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return f"flipped a bit at {at} of {path.relative_to(model)}"


def _part_is_a_file(model: Path, rng: Rng, _other: Path) -> str:
    part = str(rng.choice(PARTS))
    shutil.rmtree(model / part, ignore_errors=True)
    (model / part).write_text("{}")
    return f"{part} is a file"


# ---- configs -------------------------------------------------------------------------------------------------------


def _drop_key(model: Path, rng: Rng, _other: Path) -> str:
    name = _here(model, CONFIGS, rng)
    data = _json(model / name)
    key = str(rng.choice(sorted(data)))
    del data[key]
    (model / name).write_text(json.dumps(data))
    return f"dropped {key} of {name}"


def _odd_value(model: Path, rng: Rng, _other: Path) -> str:
    name = _here(model, CONFIGS, rng)
    data = _json(model / name)
    key = str(rng.choice(sorted(data)))
    data[key] = _ODD[int(rng.integers(len(_ODD)))]
    (model / name).write_text(json.dumps(data))
    return f"{key} {data[key]!r} in {name}"


def _nested_value(model: Path, rng: Rng, _other: Path) -> str:
    """Change one item of a list in a config."""
    name = _here(model, CONFIGS, rng)
    data = _json(model / name)
    lists = sorted(key for key, value in data.items() if isinstance(value, list) and value)
    if not lists:
        raise NotHereError
    key = str(rng.choice(lists))
    data[key][int(rng.integers(len(data[key])))] = _ODD[int(rng.integers(len(_ODD)))]
    (model / name).write_text(json.dumps(data))
    return f"{key} {data[key]!r} in {name}"


def _no_json(model: Path, rng: Rng, _other: Path) -> str:
    name = _here(model, CONFIGS, rng)
    text = ["[]", "null", "{", '{"a": NaN}', "\ufeff{}", "[" * 2000, '{"a": 1, "a": 2}', "{}"][int(rng.integers(8))]
    (model / name).write_text(text)
    return f"{text[:12]!r} in {name}"


# ---- tensors -------------------------------------------------------------------------------------------------------


def _drop_tensor(model: Path, rng: Rng, _other: Path) -> str:
    name, drop = _here(model, WEIGHTS, rng), float(rng.random())
    _tensors(model / name, lambda t: {k: v for n, (k, v) in enumerate(t.items()) if n != int(drop * len(t))})
    return f"dropped a tensor of {name}"


def _rename_tensor(model: Path, rng: Rng, _other: Path) -> str:
    name, at = _here(model, WEIGHTS, rng), float(rng.random())
    prefix = str(rng.choice(["module.", "text_model.", "model.", "_"]))
    _tensors(
        model / name, lambda t: {(prefix + k if n == int(at * len(t)) else k): v for n, (k, v) in enumerate(t.items())}
    )
    return f"renamed a tensor of {name} with {prefix}"


def _reshape_tensor(model: Path, rng: Rng, _other: Path) -> str:
    name, at = _here(model, WEIGHTS, rng), float(rng.random())
    _tensors(
        model / name, lambda t: {k: (v.flatten() if n == int(at * len(t)) else v) for n, (k, v) in enumerate(t.items())}
    )
    return f"flattened a tensor of {name}"


def _extra_tensor(model: Path, rng: Rng, _other: Path) -> str:
    name = _here(model, WEIGHTS, rng)
    extra = str(rng.choice(["lora.up.weight", "embeddings.position_ids", "text_model.embeddings.position_ids", "x"]))
    _tensors(model / name, lambda t: t | {extra: torch.ones(1, 20)})
    return f"added {extra} to {name}"


def _doubled_tensor(model: Path, rng: Rng, _other: Path) -> str:
    """Store one tensor under its old and a new name, with other numbers."""
    name, at = TEXT, float(rng.random())
    if not (model / name).is_file():
        raise NotHereError

    def doubled(t: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        key = list(t)[int(at * len(t))]
        return t | {f"text_model.{key}": t[key] + 1}

    _tensors(model / name, doubled)
    return f"a tensor of {name} under two names"


HARMFUL: Mapping[str, Damage] = {
    **{name: (lambda model, _rng, _other, do=spoil[0]: do(model) and "") for name, spoil in REFUSED.items()},
    "cut file": _cut_file, "file gone": _delete_file, "part gone": _delete_part, "misnamed file": _rename_file,
    "misnamed part": _rename_part, "swapped files": _swap_files, "foreign file": _foreign_file,
    "foreign part": _foreign_part, "flipped bit": _flip_byte, "part is a file": _part_is_a_file, "key gone": _drop_key,
    "odd value": _odd_value, "odd item": _nested_value, "no JSON": _no_json, "tensor gone": _drop_tensor,
    "misnamed tensor": _rename_tensor, "flat tensor": _reshape_tensor, "another tensor": _extra_tensor,
    "tensor twice": _doubled_tensor,
}  # fmt: skip
"""Damages that can be harmful; the test determines whether they are."""

DRAWN_OFTEN = tuple(name for name in HARMFUL if name not in REFUSED)
"""Damages with a random element."""


# ---- harmless changes ----------------------------------------------------------------------------------------------


def _rewritten_json(model: Path, rng: Rng, _other: Path) -> str:
    name = _here(model, CONFIGS, rng)
    data = _json(model / name)
    (model / name).write_text(json.dumps({key: data[key] for key in sorted(data, reverse=True)}, indent=7) + "\n\n")
    return f"{name} in another order"


def _files_beside(model: Path, rng: Rng, _other: Path) -> str:
    name = str(rng.choice(["README.md", ".gitattributes", "unet/.DS_Store", "vae/notes.txt", "logs/a.log", "a b.txt"]))
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("beside")
    return f"{name} beside"


def _linked_weights(model: Path, rng: Rng, _other: Path) -> str:
    path = model / _here(model, WEIGHTS, rng)
    blob = model.parent / f"blob-{path.parent.name}"
    if path.is_symlink() or blob.exists():
        raise NotHereError
    path.rename(blob)
    path.symlink_to(blob)
    return f"{path.relative_to(model)} is a link"


def _linked_part(model: Path, rng: Rng, _other: Path) -> str:
    part = str(rng.choice(PARTS))
    target = model.parent / f"linked-{part}"
    if (model / part).is_symlink() or target.exists():
        raise NotHereError
    shutil.move(model / part, target)
    (model / part).symlink_to(target)
    return f"{part} is a link"


def _in_shards(model: Path, rng: Rng, _other: Path) -> str:
    """Split the tensors of a part into two files with an index."""
    from safetensors.torch import save_file

    path = model / _here(model, WEIGHTS, rng)
    tensors, stem = load_file(path), path.name.removesuffix(".safetensors")
    half = len(tensors) // 2
    named: dict[str, str] = {}
    for number, names in enumerate((list(tensors)[:half], list(tensors)[half:]), start=1):
        shard = f"{stem}-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, path.with_name(shard), {"format": "pt"})
        named |= dict.fromkeys(names, shard)
    path.unlink()
    size = sum(tensor.nbytes for tensor in tensors.values())
    path.with_name(f"{stem}.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": named})
    )
    return f"{path.relative_to(model)} in shards"


def _named(name: str) -> Damage:
    return lambda model, _rng, _other: ACCEPTED[name](model) and ""


HARMLESS: Mapping[str, Damage] = {
    **{name: _named(name) for name in ACCEPTED if name in (
        "as-it-is", "sample-size-of-two", "no-limit", "limit-unsaid", "position-ids", "names-of-transformers-4",
        "pickles-beside",
    )},
    "JSON in another order": _rewritten_json, "files beside": _files_beside, "linked weights": _linked_weights,
    "linked part": _linked_part, "shards": _in_shards,
}  # fmt: skip
"""Changes after which the model must be accepted and give the same pictures, bit for bit."""


def _half(model: Path, rng: Rng, _other: Path) -> str:
    kind = [torch.float16, torch.bfloat16, torch.float64][int(rng.integers(3))]
    name = _here(model, WEIGHTS, rng)
    _tensors(model / name, lambda t: {key: value.to(kind) for key, value in t.items()})
    return f"{name} as {kind}"


def _scheduler(model: Path, rng: Rng, _other: Path) -> str:
    name = str(rng.choice(["DDIM", "DDPM", "EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep", "LMSDiscrete"]))
    settings = [
        {},
        {"prediction_type": "v_prediction"},
        {"timestep_spacing": "trailing"},
        {"timestep_spacing": "linspace"},
    ]
    chosen = settings[int(rng.integers(len(settings)))]
    published_with(f"{name}Scheduler", **chosen)(model)
    return f"{name} {chosen}"


def _another_size(model: Path, rng: Rng, _other: Path) -> str:
    data = _json(model / "unet/config.json")
    data["sample_size"] = [4, 12, [8, 12], [12, 4]][int(rng.integers(4))]
    (model / "unet/config.json").write_text(json.dumps(data))
    return f"sample_size {data['sample_size']}"


def _scaled(model: Path, rng: Rng, _other: Path) -> str:
    data = _json(model / "vae/config.json")
    data["scaling_factor"] = float(rng.choice([0.13025, 0.5, 1.0, 2.0]))
    (model / "vae/config.json").write_text(json.dumps(data))
    return f"scaling_factor {data['scaling_factor']}"


OTHERWISE: Mapping[str, Damage] = {
    "half precision": _half, "scheduler": _scheduler, "another size": _another_size, "scaled": _scaled,
}  # fmt: skip
"""Changes that give another valid model."""
