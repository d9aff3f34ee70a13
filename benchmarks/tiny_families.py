"""A tiny pipeline of every family, with random weights, built from configs alone: real classes, a few channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.tiny_models import TEXTS, save_tiny_pipeline

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_WORDS = ["a", "face", "photo", "of", "doctor", "nurse", "old", "female", "male", "young", "person"]


def save_sdxl(root: Path, *, second_width: int = 16) -> Path:
    """Save Stable Diffusion XL: pictures of 16 × 16.

    Args:
        root: Directory to write into.
        second_width: Width of the second text encoder; in one file, encoders of equal width cannot be told apart.
    """
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    from audit.training.loop import seeded

    tokenizer = _clip_tokenizer(root)
    with seeded(1):
        parts = {
            "vae": _vae(4),
            "text_encoder": _clip(tokenizer, 16, projected=False),
            "text_encoder_2": _clip(tokenizer, second_width, projected=True),
            "unet": UNet2DConditionModel(
                sample_size=8,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                block_out_channels=(8, 16),
                layers_per_block=1,
                cross_attention_dim=16 + second_width,
                attention_head_dim=2,
                norm_num_groups=4,
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=4,
                projection_class_embeddings_input_dim=6 * 4 + second_width,
            ),
        }
    scheduler = EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1)
    pipeline = StableDiffusionXLPipeline(
        **parts, tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=scheduler, force_zeros_for_empty_prompt=True
    )
    return _saved(pipeline, root)


def save_sd3(root: Path, *, with_t5: bool = True) -> Path:
    """Save Stable Diffusion 3: pictures of 16 × 16."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    from audit.training.loop import seeded

    tokenizer = _clip_tokenizer(root)
    with seeded(2):
        parts = {
            "vae": _vae(4, shift=0.1),
            "text_encoder": _clip(tokenizer, 16, projected=True),
            "text_encoder_2": _clip(tokenizer, 16, projected=True),
            "text_encoder_3": _t5() if with_t5 else None,
            "transformer": SD3Transformer2DModel(
                sample_size=8,
                patch_size=2,
                in_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                caption_projection_dim=16,
                joint_attention_dim=32,
                pooled_projection_dim=32,
                out_channels=4,
                pos_embed_max_size=16,
            ),
        }
    pipeline = StableDiffusion3Pipeline(
        **parts,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        tokenizer_3=_t5_tokenizer() if with_t5 else None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    return _saved(pipeline, root)


def save_flux(root: Path, *, guidance_embeds: bool = True) -> Path:
    """Save FLUX.1; ask it for pictures of 32 × 32."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    from audit.training.loop import seeded

    tokenizer = _clip_tokenizer(root)
    with seeded(3):
        parts = {
            "vae": _vae(4, shift=0.1),
            "text_encoder": _clip(tokenizer, 16, projected=False),
            "text_encoder_2": _t5(),
            "transformer": FluxTransformer2DModel(
                patch_size=1,
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=32,
                pooled_projection_dim=16,
                axes_dims_rope=(4, 4, 8),
                guidance_embeds=guidance_embeds,
            ),
        }
    pipeline = FluxPipeline(
        **parts,
        tokenizer=tokenizer,
        tokenizer_2=_t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    )
    return _saved(pipeline, root)


def save_pixart(root: Path, *, sample_size: int = 32, tokens: int = 512, levels: int = 4) -> Path:
    """Save PixArt-α.

    Args:
        root: Directory to write into.
        sample_size: Of its latents; the pipeline has formats for 32.
        tokens: Limit of its tokenizer, 512 as published.
        levels: Of its VAE, 4 as published: a cell of the latents is 8 × 8 pixels.
    """
    from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel

    from audit.training.loop import seeded

    with seeded(4):
        parts = {
            "vae": _vae(4, levels=levels),
            "text_encoder": _t5(),
            "transformer": PixArtTransformer2DModel(
                sample_size=sample_size,
                num_layers=2,
                patch_size=2,
                attention_head_dim=8,
                num_attention_heads=2,
                in_channels=4,
                cross_attention_dim=16,
                out_channels=8,
                caption_channels=32,
                norm_num_groups=4,
                use_additional_conditions=False,
            ),
        }
    pipeline = PixArtAlphaPipeline(
        **parts, tokenizer=_t5_tokenizer(tokens), scheduler=DPMSolverMultistepScheduler(beta_schedule="linear")
    )
    return _saved(pipeline, root)


def save_pixart_sigma(root: Path) -> Path:
    """Save PixArt-Σ, which has the parts of PixArt-α."""
    from diffusers import PixArtAlphaPipeline, PixArtSigmaPipeline

    alpha = PixArtAlphaPipeline.from_pretrained(save_pixart(root / "alpha"))
    return _saved(PixArtSigmaPipeline(**alpha.components), root)


def save_sana(root: Path) -> Path:
    """Save Sana: 16 × 16 latents of a deep autoencoder."""
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel
    from transformers import Gemma2Config, Gemma2Model

    from audit.training.loop import seeded

    tokenizer = _gemma_tokenizer()
    levels, width = 6, 8
    with seeded(5):
        text_encoder = Gemma2Model(
            Gemma2Config(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
            )
        )
        vae = AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_out_channels=(width,) * levels,
            decoder_block_out_channels=(width,) * levels,
            encoder_layers_per_block=(1,) * levels,
            decoder_layers_per_block=(1,) * levels,
            encoder_qkv_multiscales=((),) * levels,
            decoder_qkv_multiscales=((),) * levels,
            scaling_factor=0.41,
        )
        transformer = SanaTransformer2DModel(
            sample_size=16,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=16,
        )
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return _saved(SanaPipeline(tokenizer, text_encoder, vae, transformer, scheduler), root)


def save_lcm(root: Path) -> Path:
    """Save a latent consistency model: Stable Diffusion whose U-Net reads the guidance scale."""
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    from audit.training.loop import seeded

    base = StableDiffusionPipeline.from_pretrained(save_tiny_pipeline(root / "base"), safety_checker=None)
    with seeded(6):
        unet = UNet2DConditionModel.from_config({**base.unet.config, "time_cond_proj_dim": 8})
    parts = {name: part for name, part in base.components.items() if name not in ("unet", "scheduler")}
    pipeline = LatentConsistencyModelPipeline(
        **parts, unet=unet, scheduler=LCMScheduler(**BETAS), requires_safety_checker=False
    )
    return _saved(pipeline, root)


def save_ddpm(root: Path) -> Path:
    """Save an unconditional model: pictures of 16 × 16."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    from audit.training.loop import seeded

    with seeded(7):
        unet = UNet2DModel(
            sample_size=16,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=8,
        )
    return _saved(DDPMPipeline(unet, DDPMScheduler()), root)


def save_chroma(root: Path) -> Path:
    """Save Chroma, which has no family: FLUX.1 without distilled guidance; ask it for pictures of 32 × 32."""
    from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

    from audit.training.loop import seeded

    with seeded(8):
        parts = {
            "vae": _vae(4, shift=0.1),
            "text_encoder": _t5(),
            "transformer": ChromaTransformer2DModel(
                patch_size=1,
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=32,
                axes_dims_rope=(4, 4, 8),
                approximator_num_channels=8,
                approximator_hidden_dim=16,
                approximator_layers=1,
            ),
        }
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return _saved(ChromaPipeline(**parts, tokenizer=_t5_tokenizer(), scheduler=scheduler), root)


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "sd": save_tiny_pipeline,
    "sdxl": save_sdxl,
    "sd3": save_sd3,
    "flux": save_flux,
    "pixart": save_pixart,
    "sana": save_sana,
    "lcm": save_lcm,
    "ddpm": save_ddpm,
}
"""Name → function that saves a tiny pipeline in a directory and returns its directory."""


def _saved(pipeline: Any, root: Path) -> Path:
    pipeline.save_pretrained(root / "pipeline")
    return root / "pipeline"


def _clip_tokenizer(root: Path):
    from audit.training.tokenizer import train_tokenizer

    return train_tokenizer(list(TEXTS), root / "tokenizer")


def _clip(tokenizer: Any, width: int, *, projected: bool):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        max_position_embeddings=tokenizer.model_max_length,
        eos_token_id=tokenizer.eos_token_id,
    )
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


def _t5():
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=200, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


def _t5_tokenizer(limit: int = 512):
    from transformers import T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    words = [(f"▁{word}", -3.0) for word in _WORDS] + [(sign, -9.0) for sign in "▁abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(vocab=special + words, extra_ids=100, model_max_length=limit)


def _gemma_tokenizer():
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {token: place for place, token in enumerate(special + bytes_ + ["▁", *"abcdefghijklmnopqrstuvwxyz"])}
    return GemmaTokenizer(vocab=vocabulary, merges=[], model_max_length=512)


def _vae(latents: int, *, levels: int = 2, shift: float | None = None):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        norm_num_groups=4,
        layers_per_block=1,
        latent_channels=latents,
        sample_size=16,
        shift_factor=shift,
    )
