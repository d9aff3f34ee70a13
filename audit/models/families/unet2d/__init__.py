"""Unconditional models of pixels (DDPM, DDIM): one U-Net, no text.

It may import what is below ``families`` in ``audit.models``, and no other family.
"""
