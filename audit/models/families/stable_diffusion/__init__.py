"""Stable Diffusion 1.x and 2.x: a U-Net on the latents of a VAE, conditioned by CLIP's text encoder.

It may import what is below ``families`` in ``audit.models``, and no other family.
"""
