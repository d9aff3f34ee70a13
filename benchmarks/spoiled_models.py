"""Named damages of a diffusers directory that occur in practice: truncated, incomplete, or mixed with another model.

``validate`` must refuse each, or the model must load and draw correctly. Tests run all of them, and a fuzz test may
combine them.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
TOKENIZER = "tokenizer/tokenizer_config.json"
NO_LIMIT = 1000000000000000019884624838656
"""The limit that transformers writes for a tokenizer without a limit."""

Spoil = Callable[[Path], object]


def edit(path: Path, *, drop: tuple[str, ...] = (), **changes: object) -> None:
    """Change and remove keys of a JSON file."""
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if key not in drop}))


def change_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Rewrite a safetensors file with other tensors."""
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)


def without(path: str, prefix: str) -> Spoil:
    """Remove the tensors whose names start with ``prefix``."""
    return lambda model: change_tensors(
        model / path, lambda t: {name: value for name, value in t.items() if not name.startswith(prefix)}
    )


def cut(path: str, share: float = 0.5) -> Spoil:
    """Truncate a file."""
    return lambda model: (model / path).write_bytes((data := (model / path).read_bytes())[: int(len(data) * share)])


def config(path: str, *, drop: tuple[str, ...] = (), **changes: object) -> Spoil:
    """Change keys of a config."""
    return lambda model: edit(model / path, drop=drop, **changes)


def published_with(scheduler: str, **settings: object) -> Spoil:
    """Publish the model with another scheduler of diffusers, saved with its own defaults."""

    def spoil(model: Path) -> None:
        import diffusers

        kind = getattr(diffusers, scheduler)
        betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        if scheduler.startswith("FlowMatch"):
            betas = {}
        kind(**betas, **settings).save_pretrained(model / "scheduler")
        edit(model / "model_index.json", scheduler=["diffusers", scheduler])

    return spoil


def with_tensor(path: str, name: str, *shape: int) -> Spoil:
    """Add a tensor, or replace one."""
    return lambda model: change_tensors(model / path, lambda t: t | {name: torch.zeros(shape)})


def both(*spoils: Spoil) -> Spoil:
    """Combine several damages."""
    return lambda model: [spoil(model) for spoil in spoils]


def as_variant(variant: str, *paths: str) -> Spoil:
    """Rename weight files to those of a variant."""

    def spoil(model: Path) -> None:
        for path in paths:
            stem, suffix = path.rsplit(".", 1)
            (model / path).rename(model / f"{stem}.{variant}.{suffix}")

    return spoil


def _inpainting(model: Path) -> None:
    edit(model / "unet/config.json", in_channels=9)
    change_tensors(model / UNET, lambda t: t | {"conv_in.weight": torch.zeros(len(t["conv_in.weight"]), 9, 3, 3)})


def _first_tensors(path: str, keep: float) -> Spoil:
    return lambda model: change_tensors(model / path, lambda t: dict(list(t.items())[: int(len(t) * keep)]))


def _dangling(path: str) -> Spoil:
    def spoil(model: Path) -> None:
        (model / path).unlink()
        (model / path).symlink_to(model / "not-downloaded")

    return spoil


def _half_the_merges(model: Path) -> None:
    path = model / "tokenizer/tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["merges"] = data["model"]["merges"][: len(data["model"]["merges"]) // 2]
    path.write_text(json.dumps(data))


REFUSED: dict[str, tuple[Spoil, str, str]] = {
    "unet-without-mid-block": (
        without(UNET, "mid_block"),
        "model.source",
        r"unet: .* found no mid_block\.attentions\.0\.norm\.bias, .* and \d+ more",
    ),
    "position-ids-of-another-part": (
        lambda m: change_tensors(
            m / VAE, lambda t: t | {"text_model.embeddings.position_ids": torch.arange(20.0)[None]}
        ),
        "model.source",
        r"vae: .* found also embeddings\.position_ids",
    ),
    "text-encoder-half": (
        _first_tensors(TEXT, 20 / 36),
        "model.source",
        r"text_encoder: .* found no encoder\.layers\.0",
    ),
    "vae-without-decoder": (without(VAE, "decoder"), "model.source", r"vae: .* found no decoder\.conv_in\.bias"),
    "one-bias-missing": (
        without(UNET, "conv_out.bias"),
        "model.source",
        r"found no conv_out\.bias; they would be random",
    ),
    "tensor-too-many": (with_tensor(UNET, "lora.up", 2), "model.source", r"found also lora\.up"),
    "tensor-of-another-shape": (
        with_tensor(UNET, "conv_out.weight", 4, 9, 3, 3),
        "model.source",
        r"conv_out\.weight of shape \[4, 9, 3, 3\] instead of \[4, 8, 3, 3\]",
    ),
    "tensor-under-two-names": (
        with_tensor(TEXT, "text_model.final_layer_norm.bias", 16),
        "model.source",
        r"1 of them under an old and a new name \(final_layer_norm\.bias\)",
    ),
    "vae-tensor-under-two-names": (
        with_tensor(VAE, "decoder.mid_block.attentions.0.query.bias", 8),
        "model.source",
        "1 of them under an old and a new name",
    ),
    "flow-matching-scheduler": (
        published_with("FlowMatchEulerDiscreteScheduler", shift=3.0),
        "model.source",
        "found FlowMatchEulerDiscreteScheduler",
    ),
    "flow-matching-config-of-ddim": (
        lambda m: (m / SCHEDULER).write_text('{"num_train_timesteps": 1000, "shift": 3.0}'),
        "model.source",
        "found shift of flow matching",
    ),
    "scheduler-without-betas": (
        config(SCHEDULER, drop=("beta_start", "beta_end", "beta_schedule", "trained_betas")),
        "model.source",
        "expected the noise schedule that the U-Net was trained with",
    ),
    "flow-sigmas": (
        published_with("DPMSolverMultistepScheduler", use_flow_sigmas=True, prediction_type="flow_prediction"),
        "model.source",
        "found use_flow_sigmas of flow matching",
    ),
    "edm-scheduler": (
        config("model_index.json", scheduler=["diffusers", "EDMEulerScheduler"]),
        "model.source",
        "EDMEuler",
    ),
    "fp16-alone": (as_variant("fp16", UNET, VAE, TEXT), "model.variant", r"found fp16 alone; set model\.variant: fp16"),
    "half-a-file": (cut(UNET), "model.source", "expected a whole safetensors file, found one that cannot be read"),
    "header-alone": (cut(VAE, 0.01), "model.source", "expected a whole safetensors file"),
    "empty-file": (cut(TEXT, 0), "model.source", "expected a whole safetensors file"),
    "dangling-link": (_dangling(VAE), "model.source", "expected vae/diffusion_pytorch_model.safetensors, found"),
    "no-scheduler-config": (
        lambda m: (m / SCHEDULER).unlink(),
        "model.source",
        r"scheduler_config\.json: expected the config of the scheduler",
    ),
    "no-vae": (lambda m: shutil.rmtree(m / "vae"), "model.source", r"vae/config\.json: expected the config of the vae"),
    "no-unet-in-index": (config("model_index.json", drop=("unet",)), "model.source", "found no unet"),
    "scheduler-named-by-a-word": (
        config("model_index.json", scheduler="PNDMScheduler"),
        "model.source",
        "found no scheduler",
    ),
    "inpainting-unet": (_inpainting, "model.source", "expected in_channels 4, .* found 9; such a U-Net takes a mask"),
    "no-sample-size": (
        config("unet/config.json", drop=("sample_size",)),
        "model.source",
        "expected sample_size, .* found None",
    ),
    "sample-size-of-three": (config("unet/config.json", sample_size=[8, 8, 8]), "model.source", "expected sample_size"),
    "sample-size-in-words": (config("unet/config.json", sample_size="64"), "model.source", "expected sample_size"),
    "sdxl-with-one-text-encoder": (
        config(
            "model_index.json", _class_name="StableDiffusionXLPipeline", tokenizer_2=["transformers", "CLIPTokenizer"]
        ),
        "model.source",
        "expected the parts of StableDiffusionXLPipeline, found no text_encoder_2",
    ),
    "flux-with-a-unet": (
        config("model_index.json", _class_name="FluxPipeline"),
        "model.source",
        r"expected the parts of FLUX\.1, found unet of class UNet2DConditionModel",
    ),
    "upscaling": (
        config("model_index.json", _class_name="StableDiffusionUpscalePipeline"),
        "model.source",
        "found StableDiffusionUpscalePipeline, not supported yet",
    ),
    "another-unet": (
        config("model_index.json", unet=["diffusers", "UNet2DModel"]),
        "model.source",
        "found unet of class UNet2DModel",
    ),
    "another-unet-s-config": (
        config("unet/config.json", _class_name="UNet3DConditionModel"),
        "model.source",
        "found one of UNet3DConditionModel",
    ),
    "t5-in-the-text-encoder": (
        config("text_encoder/config.json", model_type="t5", drop=("architectures",)),
        "model.source",
        "found one of model_type t5",
    ),
    "vae-of-other-latents": (config("vae/config.json", latent_channels=8), "model.source", "expected in_channels 8"),
    "vae-scale-null": (config("vae/config.json", scaling_factor=None), "model.source", "expected scaling_factor"),
    "vae-levels-in-a-number": (
        config("vae/config.json", block_out_channels=8),
        "model.source",
        "expected block_out_channels, a list of numbers, found 8",
    ),
    "vae-of-grey": (config("vae/config.json", out_channels=1), "model.source", "expected out_channels 3"),
    "another-text-width": (
        config("unet/config.json", cross_attention_dim=24),
        "model.source",
        "expected cross_attention_dim 16",
    ),
    "class-labels": (
        both(config("unet/config.json", num_class_embeds=3), with_tensor(UNET, "class_embedding.weight", 3, 32)),
        "model.source",
        "num_class_embeds 3: this U-Net takes a class label",
    ),
    "added-conditions": (
        config("unet/config.json", addition_embed_type="text_time"),
        "model.source",
        "addition_embed_type 'text_time'",
    ),
    "unknown-block": (
        config("unet/config.json", mid_block_type="MidBlock9"),
        "model.source",
        "expected a config that the part can be built from",
    ),
    "config-in-words": (config("unet/config.json", layers_per_block="two"), "model.source", "can be built from"),
    "a-million-layers": (
        config("unet/config.json", layers_per_block=10**6),
        "model.source",
        "expected layers_per_block",
    ),
    "config-of-a-list": (
        lambda m: (m / "vae/config.json").write_text("[1]"),
        "model.source",
        "a list instead of an object",
    ),
    "quantised": (
        config("unet/config.json", quantization_config={"quant_method": "bitsandbytes"}),
        "model.source",
        "quantization_config",
    ),
    "quantised-tensor": (
        lambda m: change_tensors(m / UNET, lambda t: t | {"conv_out.bias": torch.zeros(4, dtype=torch.int8)}),
        "model.source",
        r"expected weights in F64, F32, F16, BF16, found I8 in conv_out\.bias",
    ),
    "no-tokenizer-files": (
        lambda m: (m / "tokenizer/tokenizer.json").unlink(),
        "model.source",
        r"expected tokenizer\.json, or vocab\.json and",
    ),
    "half-a-tokenizer": (cut("tokenizer/tokenizer.json"), "model.source", "tokenizer: expected a CLIP tokenizer"),
    "half-the-merges": (_half_the_merges, "model.source", "the merges are incomplete"),
    "a-limit-of-two": (config(TOKENIZER, model_max_length=2), "model.source", "expected room for at least 3 tokens"),
    "a-limit-in-words": (config(TOKENIZER, model_max_length="long"), "model.source", "expected a CLIP tokenizer"),
    "smaller-vocabulary": (
        both(
            config("text_encoder/config.json", vocab_size=10),
            with_tensor(TEXT, "embeddings.token_embedding.weight", 10, 16),
        ),
        "model.source",
        "expected the 10 tokens of the text encoder, found token number",
    ),
    "noise-without-signal": (
        published_with("DDIMScheduler", rescale_betas_zero_snr=True, timestep_spacing="trailing"),
        "model.source",
        "expected v_prediction with zero terminal SNR, found 'epsilon'",
    ),
    "betas-beyond-one": (config(SCHEDULER, beta_end=9.0), "model.source", "expected betas between 0 and 1"),
    "unknown-prediction": (config(SCHEDULER, prediction_type="x"), "model.source", "prediction_type given as x"),
    "unknown-spacing": (config(SCHEDULER, timestep_spacing="x"), "model.source", "expected timestep_spacing leading"),
    "betas-for-one-timestep": (
        config(SCHEDULER, trained_betas=[0.1]),
        "model.source",
        "expected trained_betas for each",
    ),
    "a-list-for-a-class": (config(SCHEDULER, _class_name=[8]), "model.source", r"found \[8\]"),
    "a-limit-of-one": (config(TOKENIZER, model_max_length=1), "model.source", "expected room for at least 3 tokens"),
    "unknown-betas": (config(SCHEDULER, beta_schedule="steep"), "model.source", "can be built from"),
    "fewer-timesteps-than-steps": (
        config(SCHEDULER, num_train_timesteps=3),
        "sampling.steps",
        "expected at most the 3 steps",
    ),
    "endless-timesteps": (
        config(SCHEDULER, num_train_timesteps=10**12),
        "model.source",
        "expected num_train_timesteps",
    ),
}
"""Name → damage, the config key of the refusal, and a pattern of the message."""

ACCEPTED: dict[str, Spoil] = {
    "as-it-is": lambda _model: None,
    "sample-size-of-two": config("unet/config.json", sample_size=[8, 8]),
    "no-limit": config(TOKENIZER, model_max_length=NO_LIMIT),
    "limit-unsaid": config(TOKENIZER, drop=("model_max_length",)),
    "dpm-with-infinity": published_with("DPMSolverMultistepScheduler"),
    "euler": published_with("EulerDiscreteScheduler"),
    "uni-pc": published_with("UniPCMultistepScheduler"),
    "thresholding": published_with("DDIMScheduler", thresholding=True),
    "lcm-scheduler": published_with("LCMScheduler"),
    "lcm-unet": both(
        config("unet/config.json", time_cond_proj_dim=4), with_tensor(UNET, "time_embedding.cond_proj.weight", 8, 4)
    ),
    "position-ids": lambda m: change_tensors(
        m / TEXT, lambda t: t | {"embeddings.position_ids": torch.arange(20.0)[None]}
    ),
    "names-of-transformers-4": lambda m: change_tensors(
        m / TEXT, lambda t: {f"text_model.{k}": v for k, v in t.items()}
    ),
    "one-part-s-variant": as_variant("fp16", UNET),
    "scale-unsaid": config("vae/config.json", drop=("scaling_factor",)),
    "pickles-beside": lambda m: (m / "unet/diffusion_pytorch_model.bin").write_bytes(b"\x80\x04."),
}
"""Name → a change after which the model must load and draw. ``one-part-s-variant`` needs ``variant: fp16``."""
