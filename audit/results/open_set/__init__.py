"""Findings of an open set from embeddings of images: what distinguishes a prompt, confirmed on held-out seeds.

It may import ``measure`` and ``records``.
"""
