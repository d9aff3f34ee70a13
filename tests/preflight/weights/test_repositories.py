"""Of a repository only the files that an audit reads are downloaded, whatever else it holds."""

from itertools import pairwise

import pytest
from huggingface_hub.utils import filter_repo_objects

from audit.models.files.untrusted_model import UnfitModelError
from audit.preflight.weights.missing import _patterns
from audit.preflight.weights.needs import Need, Origin
from audit.preflight.weights.repositories import Repository, files_of, repository_of

INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "image_encoder": [None, None],
}
SDXL = [
    "README.md",
    "model_index.json",
    "sd_xl_base_1.0.safetensors",
    "safety_checker/model.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/flax_model.msgpack",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.onnx",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]
CONFIGS = {name for name in SDXL if name.endswith((".json", ".txt"))}
FULL = {f"{part}.safetensors" for part in ("text_encoder/model", "unet/diffusion_pytorch_model")}
HALF = {name.replace(".safetensors", ".fp16.safetensors") for name in FULL}
VAE = "vae/diffusion_pytorch_model.safetensors"


def need(origin=Origin.PIPELINE, source="owner/name", **keys):
    return Need(("model", "source"), "model", source, origin, **keys)


def test_of_several_precisions_one_is_chosen():
    assert set(files_of(need(), SDXL, INDEX)) == CONFIGS | FULL | {VAE}


def test_a_part_without_the_variant_is_read_from_its_plain_files():
    assert set(files_of(need(variant="fp16"), SDXL, INDEX)) == CONFIGS | HALF | {VAE}


def test_the_command_of_the_doctor_gets_at_least_the_files_that_are_read():
    options = list(_patterns(need(), Repository("owner/name")))
    chosen = {option: [b for a, b in pairwise(options) if a == option] for option in set(options)}
    got = set(filter_repo_objects(SDXL, allow_patterns=chosen["--include"], ignore_patterns=chosen["--exclude"]))
    assert got >= set(files_of(need(), SDXL, INDEX))
    assert not got & {"sd_xl_base_1.0.safetensors", "safety_checker/model.safetensors", *HALF}


@pytest.mark.parametrize("shard", ["{stem}.{kind}-0000{n}-of-00002", "{stem}-0000{n}-of-00002.{kind}"])
def test_shards_are_chosen_with_their_index_in_both_ways_of_naming_a_variant(shard):
    stem = "diffusion_pytorch_model"
    half = [f"unet/{shard.format(stem=stem, kind='fp16', n=n)}.safetensors" for n in (1, 2)]
    full = [f"unet/{stem}-0000{n}-of-00002.safetensors" for n in (1, 2)]
    indexes = [f"unet/{stem}.safetensors.index.json", f"unet/{stem}.safetensors.index.fp16.json"]
    names = ["model_index.json", "unet/config.json", *half, *full, *indexes]
    index = {"unet": INDEX["unet"]}
    rest = {"model_index.json", "unet/config.json"}
    assert set(files_of(need(), names, index)) == {*rest, *full, indexes[0]}
    assert set(files_of(need(variant="fp16"), names, index)) == {*rest, *half, indexes[1]}


def test_early_repositories_keep_all_files_in_one_directory():
    names = ["README.md", "config.json", "diffusion_pytorch_model.safetensors", "model_index.json"]
    names += ["diffusion_pytorch_model.bin", "scheduler_config.json"]
    index = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    assert set(files_of(need(), names, index)) == {n for n in names if not n.endswith((".md", ".bin"))}


def test_pickled_weights_alone_are_refused_before_anything_large_is_downloaded():
    names = [name for name in SDXL if not (name.startswith("unet/") and name.endswith(".safetensors"))]
    with pytest.raises(UnfitModelError, match=r"unet/\*\.safetensors in 'owner/name', found pickled weights alone"):
        files_of(need(), names, INDEX)


def test_clip_is_read_in_the_layout_of_open_clip():
    names = ["README.md", "config.json", "model.safetensors", "open_clip_config.json", "open_clip_model.safetensors"]
    clip = need(Origin.CLIP, "hf-hub:owner/clip")
    found = files_of(clip, [*names, "vocab.json", "open_clip_pytorch_model.bin", "pytorch_model.bin"], {})
    assert set(found) == {"config.json", "open_clip_config.json", "open_clip_model.safetensors", "vocab.json"}
    with pytest.raises(UnfitModelError, match=r"pickled weights alone \(open_clip_pytorch_model\.bin\)"):
        files_of(clip, ["open_clip_config.json", "open_clip_pytorch_model.bin"], {})


def test_a_name_of_open_clip_stands_for_a_repository():
    known = repository_of(need(Origin.CLIP, "ViT-L-14:openai"))
    assert known == Repository("timm/vit_large_patch14_clip_224.openai", quick_gelu=True)
    assert repository_of(need(Origin.CLIP, "hf-hub:owner/clip")) == Repository("owner/clip")
    with pytest.raises(UnfitModelError, match="expected a CLIP model that open_clip has on the hub"):
        repository_of(need(Origin.CLIP, "ViT-L-14:nobody"))


def test_a_directory_of_a_known_name_stands_for_a_repository():
    assert repository_of(need(Origin.PATH, "weights/dinov2-large")) == Repository("facebook/dinov2-large")
    assert repository_of(need(Origin.PATH, "weights/mine")) is None
