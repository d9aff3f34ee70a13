"""Several attributes: contingency tables, association, and the shift of each attribute in an arm.

It may import ``measure.shares``, ``measure.prompts`` and ``measure.inference``.
"""
