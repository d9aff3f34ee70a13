"""Effects of images without a perceived group: bounds, and figures of all images.

It may import every other part of ``measure``.
"""
