"""Bias features: how latents are attributed to groups, and what distinguishes a group in them.

It may import ``sae``, ``group_heads`` and what ``audit.dissect`` may import.
"""
