"""Loads a full-size U-Net of random weights, and runs one step with a hook and an edit; prints times and peak memory.

The pipeline has the published architecture and numbers of parameters. ``--dissect`` makes a small lens of it instead,
and prints the measured memory beside the forecast of ``plan``.

    python -m benchmarks.full_size sd15 --work DIR
    python -m benchmarks.full_size sdxl --work DIR --dtype bfloat16
    python -m benchmarks.full_size sdxl --work DIR --dtype bfloat16 --side 512 --dissect
"""

from __future__ import annotations

import argparse
import gc
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from audit.config.sections import ModelConfig, SamplingConfig
from audit.config.settings import AuditConfig
from audit.config.slices import DissectionRequest
from audit.dissect.settings import dissected_groups, dissection_of
from audit.models.check import hookpoints_of
from audit.models.generator import DiffusionGenerator, load_generator
from audit.models.intervention import Intervention
from audit.models.liveness import require_live
from audit.preflight.lens_memory import lens_forecast
from audit.records.work import Prompt
from audit.training.loop import seeded
from audit.training.tokenizer import train_tokenizer
from benchmarks.lens_memory import TintJudge, peak, resident
from benchmarks.tiny_families import BETAS
from benchmarks.tiny_models import TEXTS

PROMPT = Prompt("doctor", TEXTS[0], "doctor")
GIB = 1024**2
"""KiB in a GiB: ``ru_maxrss`` counts KiB on Linux."""


def clip(width: int, layers: int, heads: int, activation: str, projection: int, tokenizer):
    """Return the config of a text encoder of CLIP with the vocabulary of the tokenizer."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act=activation,
        projection_dim=projection,
        max_position_embeddings=tokenizer.model_max_length,
        eos_token_id=tokenizer.eos_token_id,
    )


def vae(scale: float):
    """Return the VAE of Stable Diffusion."""
    from diffusers import AutoencoderKL

    channels = (128, 256, 512, 512)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
        scaling_factor=scale,
    )


def sd15(root: Path, dtype: torch.dtype) -> None:
    """Save Stable Diffusion 1.5."""
    from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    tokenizer = train_tokenizer(list(TEXTS), root / "tokenizer")
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    text = CLIPTextModel(clip(768, 12, 12, "quick_gelu", 768, tokenizer))
    pipeline = StableDiffusionPipeline(
        vae(0.18215),
        text,
        tokenizer,
        unet,
        PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=dtype).save_pretrained(root / "pipeline")


def sdxl(root: Path, dtype: torch.dtype) -> None:
    """Save Stable Diffusion XL."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = train_tokenizer(list(TEXTS), root / "tokenizer")
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # 2.6 billion numbers in single precision would not leave room for a copy
    try:
        unet = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        parts = {
            "vae": vae(0.13025),
            "text_encoder": CLIPTextModel(clip(768, 12, 12, "quick_gelu", 768, tokenizer)),
            "text_encoder_2": CLIPTextModelWithProjection(clip(1280, 32, 20, "gelu", 1280, tokenizer)),
        }
    finally:
        torch.set_default_dtype(default)
    pipeline = StableDiffusionXLPipeline(
        **parts,
        unet=unet,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
        force_zeros_for_empty_prompt=True,
    )
    pipeline.save_pretrained(root / "pipeline")


SAVE: dict[str, Callable[[Path, torch.dtype], None]] = {"sd15": sd15, "sdxl": sdxl}


def memory() -> float:
    """Return the largest memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB


def timed(what: str, call: Callable[[], object]) -> object:
    """Call, and print the time and the largest memory so far."""
    started = time.perf_counter()
    found = call()
    print(f"{what}: {time.perf_counter() - started:.1f} s, peak {memory():.1f} GiB", flush=True)
    return found


def run(directory: Path, dtype: str, side: int | None) -> None:
    """Load, list a hookpoint, try it, and sample one step with an edit."""
    model = ModelConfig(source=str(directory), dtype=dtype)
    shape = timed("hookpoints", lambda: hookpoints_of(directory, model))["mid_block"]
    print(f"mid_block: {shape}, {shape[0] * shape[1] * shape[2] * 2 / 1e6:.2f} MB per step and image")
    sampling = SamplingConfig(steps=1, guidance=5.0, batch=1, height=side, width=side, scheduler="DDIMScheduler")
    generator = timed("load", lambda: load_generator(model, sampling))
    assert isinstance(generator, DiffusionGenerator)
    print(f"parameters of the U-Net: {sum(p.numel() for p in generator.denoiser.parameters()) / 1e6:.0f} million")
    timed("liveness of mid_block", lambda: require_live(generator, ["mid_block"], PROMPT.text))
    seen: list[tuple[int, ...]] = []
    edit = Intervention((None,), range(1), edits={"mid_block": lambda _step, h: h + 0.1 * h.std()})
    observe = {"mid_block": lambda _step, h: seen.append(tuple(h.shape))}
    timed("one step with an edit", lambda: generator.generate(PROMPT, [1], edit, observe))
    print(f"observed: {seen}")


def dissect(directory: Path, dtype: str, side: int | None) -> None:
    """Build a lens from a few trajectories, and print the memory of each phase beside what ``plan`` forecasts."""
    from audit.dissect.build import build_lens
    from audit.dissect.recording.plan import RecordingPlan
    from audit.dissect.recording.recorder import Recorder
    from audit.dissect.recording.recording import Recording

    config = dissected_config(directory, dtype, side)
    request = DissectionRequest.of(config)
    expected = lens_forecast(request)
    assert expected is not None
    settings, groups = dissection_of(request), dissected_groups(config.lens, config.attributes)
    generator = timed("load", lambda: load_generator(config.model, config.sampling))
    assert isinstance(generator, DiffusionGenerator)
    loaded = read_weights(generator)
    texts, seeds = [PROMPT.text] * settings.batch, list(range(settings.batch))
    alone = peak(lambda: timed("images of one batch", lambda: generator.sample(texts, seeds)))
    planned = RecordingPlan.of([PROMPT], groups, config.prompts.template, [settings])
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        place = Path(name)
        recorder = Recorder(generator, TintJudge(), groups, planned)
        sampling = peak(lambda: timed("recording", lambda: recorder.record_all(place)))
        while_sampling = resident("VmHWM")
        disk = sum(file.stat().st_size for file in place.rglob("*.bin"))
        recording, checkpoint = Recording.open(place, planned, settings), place / "training.safetensors"
        fingerprint = generator.fingerprint
        fitting = peak(
            lambda: timed(
                "training and fitting",
                lambda: build_lens(recording, groups, settings, {}, fingerprint, checkpoint),
            )
        )
        while_fitting = resident("VmHWM")
    print(f"model in memory: {loaded / 1e9:.2f} GB; images of one batch without recording: {alone / 1e9:.2f} GB more")
    print(f"disk: {disk / 1e6:.1f} MB, forecast {expected.disk / 1e6:.1f} MB")
    print(
        f"memory beside the model: {max(0, sampling - alone) / 1e9:.2f} GB for recording, {fitting / 1e9:.2f} GB for "
        f"training and fitting; forecast {expected.memory / 1e9:.2f} GB"
    )
    print(f"largest memory of the process: {max(while_sampling, while_fitting) / 2**30:.2f} GiB")


def read_weights(generator: DiffusionGenerator) -> int:
    """Read every weight, which a file mapped into memory puts off until then; return the bytes that are resident."""
    for part in generator.pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():
                parameter.detach().max()
    return resident("VmRSS")


def dissected_config(directory: Path, dtype: str, side: int | None) -> AuditConfig:
    """Return a config with tiny counts: 4 trajectories of 2 steps, and 5 steps of the autoencoder."""
    return AuditConfig.model_validate(
        {
            "name": "full-size",
            "model": {"source": str(directory), "dtype": dtype},
            "prompts": {"occupations": ["doctor"]},
            "sampling": {
                "steps": 2,
                "guidance": 1.0,
                "batch": 2,
                "height": side,
                "width": side,
                "scheduler": "DDIMScheduler",
            },
            "attributes": {"tint": ["dark", "bright"]},
            "lens": {"trajectories": 4, "sae_steps": 5, "attributes": ["tint"]},
        }
    )


def main() -> None:
    """Save the pipeline if it is not there yet, and run it in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=SAVE)
    parser.add_argument("--work", type=Path, required=True, help="Directory for the weights: 4 to 8 GB.")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--side", type=int, help="Height and width of the image, in pixels.")
    parser.add_argument("--save-only", action="store_true", help="Only save the weights: that needs memory of its own.")
    parser.add_argument("--dissect", action="store_true", help="Build a lens from 4 trajectories of 2 steps.")
    arguments = parser.parse_args()
    root = arguments.work / arguments.kind
    if not (root / "pipeline" / "model_index.json").is_file():
        root.mkdir(parents=True, exist_ok=True)
        with seeded(0):
            SAVE[arguments.kind](root, getattr(torch, arguments.dtype))
        gc.collect()
    if not arguments.save_only:
        (dissect if arguments.dissect else run)(root / "pipeline", arguments.dtype, arguments.side)


if __name__ == "__main__":
    main()
