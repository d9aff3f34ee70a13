"""Fixtures that several packages' tests share: a tiny random Stable Diffusion pipeline, an S3 server on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.storage.place import ObjectPath
from benchmarks.s3_server import BUCKET, S3Server, environment, free_port


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion directory with random weights: 16×16 pictures, 8×8 latents, ε-prediction, PNDM scheduler."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from audit.training.loop import seeded
    from audit.training.tokenizer import train_tokenizer

    root = tmp_path_factory.mktemp("tiny")
    tokenizer = train_tokenizer(["a face photo of a doctor", "a face photo of a nurse"], root / "tokenizer")
    text_config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        eos_token_id=tokenizer.eos_token_id,
    )
    with seeded(0):
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(8, 16),
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            norm_num_groups=4,
            layers_per_block=1,
            latent_channels=4,
            sample_size=16,
        )
        text_encoder = CLIPTextModel(text_config)
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    pipeline = StableDiffusionPipeline(
        vae,
        text_encoder,
        tokenizer,
        unet,
        scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(root / "pipeline")
    return root / "pipeline"


@pytest.fixture(scope="session")
def s3_port():
    """Where the S3 server listens once there is one; the environment says so before any other process is started."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(port).items():
            patch.setenv(name, value)
        yield port


@pytest.fixture(scope="session")
def s3_server(s3_port):
    with S3Server(s3_port) as server:
        yield server


@pytest.fixture
def s3(s3_server):
    """The server, well, with nothing asked of it so far."""
    s3_server.fault = lambda _request: None
    s3_server.requests.clear()
    s3_server.faults.clear()
    s3_server.served.clear()
    s3_server.missed.clear()
    yield s3_server
    s3_server.fault = lambda _request: None


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    """A place that is empty so far: a directory, then a prefix on the server."""
    if request.param == "local":
        return tmp_path / "place"
    request.getfixturevalue("s3")
    return ObjectPath("s3", f"{BUCKET}/{tmp_path.name}/place")
