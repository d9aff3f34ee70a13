"""Diffusion models under audit: loading, sampling with one generator per image, hookpoints."""
