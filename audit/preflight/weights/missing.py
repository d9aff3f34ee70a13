"""Finds what a config needs and this machine lacks, each with licence, size and the command that gets it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.config.kinds.known_weights import KnownWeights, known_weights
from audit.models.families.registry import family_of
from audit.models.files.pipeline_files import find_weights, part_directory, read_index
from audit.models.files.untrusted_model import INDEX, NOT_LOADED, UnfitModelError
from audit.preflight.weights.needs import Need, Origin
from audit.preflight.weights.repositories import CLIP_CONFIG, CLIP_WEIGHTS, Repository, repository_of

_CLIP_CACHED = (*CLIP_WEIGHTS, "open_clip_pytorch_model.bin")
_FLAT = ("google/ddpm-",)
"""Beginnings of hub ids whose repositories keep all files in one directory."""


@dataclass(frozen=True)
class Missing:
    """Something that an audit needs and that is not on this machine.

    Attributes:
        need: What it is.
        found: What is here instead, in words.
        known: Its licence and size.
        command: The command that gets it; empty if there is none.
        remedy: What to do if there is no such command; empty otherwise.
        automatic: Whether a run downloads it by itself if the hub can be reached.
    """

    need: Need
    found: str
    known: KnownWeights
    command: str
    remedy: str
    automatic: bool

    @property
    def described(self) -> str:
        """What is missing, with licence and size, in one line."""
        what = f"{self.need.role}: {self.need.source} {self.found}"
        return what if self.known == KnownWeights() else f"{what}; licence {self.known.licence}; size {self.known.size}"


def missing_files(needs: Iterable[Need]) -> Iterator[Missing]:
    """Find what is not on this machine.

    Files that are here and hold something else are found by the other checks of :mod:`audit.preflight`.
    """
    for need in needs:
        if need.origin is Origin.PATH:
            if not Path(need.source).exists():
                named = known_weights(need.source)
                command = _path_command(need, named)
                remedy = "" if command else _remedy(need, named)
                yield Missing(need, "is not on this machine", named, command, remedy, automatic=False)
            continue
        try:
            repository = repository_of(need)
        except UnfitModelError:  # reported with its place in the config
            continue
        found = None if repository is None else _absent(need, repository)
        if repository is not None and found is not None:
            named = known_weights(repository.name)
            yield Missing(need, found, named, _hub_command(need, repository), "", automatic=True)


def _absent(need: Need, repository: Repository) -> str | None:
    """Return what the hub's cache lacks, in words; None if it is complete."""
    absent = "is not on this machine"
    if need.origin is Origin.PIPELINE:
        index = _cached(repository, INDEX)
        return absent if index is None else _incomplete(index.parent, need.variant)
    if need.origin is Origin.CLIP:
        config = need.source.startswith("hf-hub:") and _cached(repository, CLIP_CONFIG) is None
        return absent if config or not any(_cached(repository, name) for name in _CLIP_CACHED) else None
    files = ("config.json", "model.safetensors", "preprocessor_config.json")
    return None if all(_cached(repository, name) for name in files) else absent


def _incomplete(directory: Path, variant: str | None) -> str | None:
    try:
        index = read_index(directory)
        for part in family_of(index).networks(index):
            find_weights(directory, part, variant)
    except UnfitModelError as error:
        return f"is incomplete on this machine ({error})"
    tokenizers = (part for part in index if part.startswith("tokenizer") and index[part] != [None, None])
    lost = [part for part in tokenizers if not any(part_directory(directory, part).glob("*"))]
    return f"is incomplete on this machine (no {', '.join(lost)})" if lost else None


def _cached(repository: Repository, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repository.name, name, revision=repository.revision)
    except HFValidationError:  # no repository can have this name
        return None
    return Path(found) if isinstance(found, str) else None


def _path_command(need: Need, named: KnownWeights) -> str:
    path = Path(need.source)
    if need.install is not None:
        return need.install
    if named.url is not None and named.url.endswith(".bz2"):
        folder, file, url = (shlex.quote(text) for text in (str(path.parent), str(path), named.url))
        return f"mkdir -p {folder} && curl --fail --location {url} | bunzip2 > {file}"
    if named.url is not None:
        return f"curl --fail --location --create-dirs --output {shlex.quote(str(path))} {shlex.quote(named.url)}"
    if named.repository is not None:
        return shlex.join(["hf", "download", named.repository, *named.files, "--local-dir", str(path)])
    return ""


def _remedy(need: Need, named: KnownWeights) -> str:
    advice = named.remedy or "it has no known address: copy it here"
    return f"{advice}; save it as {need.source}, or correct {need.key}"


def _hub_command(need: Need, repository: Repository) -> str:
    revision = [] if repository.revision is None else ["--revision", repository.revision]
    return shlex.join(["hf", "download", repository.name, *revision, *_patterns(need, repository)])


def _patterns(need: Need, repository: Repository) -> Iterator[str]:
    """Yield the options of ``hf download`` that leave out weights in other formats and precisions."""
    include, exclude = ["*.json", "*.txt"], []
    if need.origin is Origin.CLIP:
        include.append(CLIP_WEIGHTS[0])
    elif need.origin is Origin.BLIP:
        include.append("model*.safetensors")
    else:
        folder = "" if repository.name.startswith(_FLAT) else "*/"
        kind = f".{need.variant}" if need.variant else ""
        include += ["*.model", f"{folder}*{kind}*.safetensors" if kind else f"{folder}*.safetensors"]
        exclude += [f"{part}/*" for part in NOT_LOADED]
        exclude += [] if need.variant else ["*.fp16*", "*non_ema*"]
    for option, patterns in (("--include", include), ("--exclude", exclude)):
        for pattern in patterns:
            yield from (option, pattern)
