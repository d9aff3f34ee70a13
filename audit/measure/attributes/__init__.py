"""Several attributes at once: tables, association, and how far an arm moves each of them.

It may import ``measure.shares``, ``measure.prompts`` and ``measure.inference``.
"""
