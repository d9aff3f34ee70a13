"""Any other text-to-image pipeline of diffusers, as a black box: its images are audited, its inside is not reached."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.config.problems import listing
from audit.config.sections import SamplingConfig
from audit.models.families.interface import Index
from audit.models.files.pipeline_files import NETWORK_CONFIG, SCHEDULER_CONFIG, PipelineConfigs
from audit.models.files.text_reader import TextReader
from audit.models.files.untrusted_model import NOT_LOADED, UnfitModelError, reason_in_short
from audit.records.located.places import Place

if TYPE_CHECKING:
    from torch import Tensor, nn

_NEEDS_A_PICTURE = "Control"
"""Part of the names of pipelines that also read a picture."""


def text_to_image_pipelines() -> tuple[str, ...]:
    """Return the classes that ``AutoPipelineForText2Image`` knows and that read nothing but a text."""
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    names = (kind.__name__ for kind in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values())
    return tuple(dict.fromkeys(name for name in names if _NEEDS_A_PICTURE not in name))


class BlackBox:
    """A pipeline whose class has no family of its own; it is called with prompts, as its users call it."""

    name = "a text-to-image pipeline of diffusers"
    pipelines: tuple[str, ...] = ()
    denoiser = ""
    blocks: tuple[str, ...] = ()
    reads_text = True
    longest_text = 0
    schedulers: tuple[str, ...] = ()
    read_by_denoiser: Mapping[str, str] = {}
    guided_in_one_batch = False
    redraws_noise = False
    cross_attention = False
    flow = True
    shared_inputs: tuple[str, ...] = ()

    def configs(self, index: Index) -> Mapping[str, str]:
        """Return the configs of the networks and of the scheduler."""
        schedulers = {part: SCHEDULER_CONFIG for part in index if part == "scheduler"}
        return {**dict.fromkeys(self.networks(index), NETWORK_CONFIG), **schedulers}

    def networks(self, index: Index) -> tuple[str, ...]:
        """Return the parts whose class is a network."""
        from torch import nn

        parts = [part for part, named in index.items() if _is_part(part, named)]
        kinds = {part: self.network_class(part, index) for part in parts}
        return tuple(part for part, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, nn.Module))

    def size(self, configs: PipelineConfigs, sampling: SamplingConfig) -> tuple[int, int]:
        """Raise ValueError: the size of what is denoised is not known."""
        raise ValueError(f"the size of what {configs.index.get('_class_name')} denoises is not known")

    def rows(self, configs: PipelineConfigs, sampling: SamplingConfig) -> int:
        """Return the rows of classifier-free guidance, which most pipelines have."""
        return 2 if sampling.guidance > 1 else 1

    def places(self, configs: PipelineConfigs) -> tuple[Place, ...]:
        """Return none."""
        return ()

    def unfit_index(self, index: Index) -> Iterator[str]:
        """Find parts whose class does not exist in the installed library, and parts that are missing."""
        for part, named in index.items():
            if _is_part(part, named) and self.network_class(part, index) is None:
                yield f"model_index.json: expected {part} of a class of {named[0]}, found {named[1]}, which it lacks"
        missing = sorted(_needed(index) - {part for part, named in index.items() if _is_part(part, named)})
        if missing:
            yield f"model_index.json: expected the parts of {index['_class_name']}, found no {listing(missing)}"

    def unfit_parts(self, directory: Path, configs: PipelineConfigs) -> Iterator[str]:
        """Find nothing: the pipeline's own class says what its parts must be."""
        return iter(())

    def unfit_sampling(self, configs: PipelineConfigs, sampling: SamplingConfig) -> Iterator[tuple[str, str]]:
        """Find settings that the pipeline's call does not have."""
        known = _call_of(configs.index)
        arguments = {key: key for key in ("negative_prompt", "height", "width")} | {"true_guidance": "true_cfg_scale"}
        for key, argument in arguments.items():
            if getattr(sampling, key) is not None and argument not in known:
                yield key, f"expected none for {configs.index['_class_name']}, whose call has no {argument}; remove it"

    def network_class(self, part: str, index: Index) -> Any:  # noqa: ANN401 - a class of diffusers or transformers
        """Return the class that the index names, None if the library does not have it."""
        import diffusers
        import transformers

        library, named = index[part]
        return getattr({"diffusers": diffusers, "transformers": transformers}.get(library), named, None)

    def check_parts(self, directory: Path, configs: PipelineConfigs, networks: Mapping[str, Any]) -> None:
        """Do nothing: only the pipeline itself knows how its parts are called."""

    def predict_on_meta(self, configs: PipelineConfigs, networks: Mapping[str, Any]) -> Tensor:
        """Raise UnfitModelError: the inside is not reached."""
        raise UnfitModelError(f"expected a model whose inside can be reached, found {configs.index['_class_name']}")

    def build(self, directory: Path, networks: Mapping[str, Any], index: Index) -> Any:  # noqa: ANN401 - a pipeline
        """Return the pipeline; its own class loads what is no network."""
        import diffusers

        kind = getattr(diffusers, index["_class_name"])
        left_out = {part: None for part in NOT_LOADED if part in index and part != "image_encoder"}
        try:
            pipeline = kind.from_pretrained(
                directory, **left_out, **networks, use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            raise UnfitModelError(
                f"{directory}: expected a pipeline that {kind.__name__} can be made from, found one that fails "
                f"({reason_in_short(error)}); download it again"
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def reader(self, pipeline: Any) -> TextReader | None:  # noqa: ANN401 - a pipeline
        """Return None: how much such a pipeline reads is not known."""
        return None

    def encode(self, pipeline: Any, text: str, sampling: SamplingConfig) -> dict[str, Tensor]:  # noqa: ANN401
        """Return nothing: the pipeline is called with the text itself."""
        return {}

    def arguments(self, pipeline: Any, sampling: SamplingConfig) -> dict[str, Any]:  # noqa: ANN401
        """Return guidance, size and negative prompt, each if it is set."""
        settings = {
            "guidance_scale": sampling.guidance,
            "height": sampling.height,
            "width": sampling.width,
            "negative_prompt": sampling.negative_prompt,
            "true_cfg_scale": sampling.true_guidance,
        }
        return {key: value for key, value in settings.items() if value is not None}

    def kept(self, pipeline: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        """Return them as they are."""
        return latents

    def as_map(self, pipeline: Any, latents: Tensor, sampling: SamplingConfig) -> Tensor:  # noqa: ANN401
        """Return them as they are."""
        return latents

    def timestep_scales(self, denoiser: Any) -> tuple[float, float]:  # noqa: ANN401
        """Return 1 and 1."""
        return 1.0, 1.0

    def read_by_blocks(self, denoiser: nn.Module, embeddings: Tensor) -> Tensor:
        """Return them as they are; no block is reached."""
        return embeddings

    def stream(self, path: str) -> int:
        """Return 0; no module is reached."""
        return 0


def _is_part(part: str, named: object) -> bool:
    is_class = isinstance(named, list) and len(named) == 2 and all(isinstance(name, str) for name in named)
    return is_class and part not in ("safety_checker", "feature_extractor")


def _needed(index: Index) -> set[str]:
    """Return the parts without which the pipeline's class cannot be made."""
    import diffusers

    kind = getattr(diffusers, index["_class_name"])
    known = inspect.signature(kind.__init__).parameters
    needed = {name for name, one in known.items() if name != "self" and one.default is inspect.Parameter.empty}
    return needed - {*kind._optional_components, *NOT_LOADED}


def _call_of(index: Index) -> Mapping[str, inspect.Parameter]:
    import diffusers

    return inspect.signature(getattr(diffusers, index["_class_name"]).__call__).parameters
