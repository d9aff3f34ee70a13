"""What images without a perceived group leave open: bounds, and figures of all images.

It may import every other part of ``measure``.
"""
