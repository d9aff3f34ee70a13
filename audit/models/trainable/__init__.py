"""A model called with gradients: formulas of its noise levels, and calls of its denoiser and decoder.

It may import what ``audit.models`` may import.
"""
