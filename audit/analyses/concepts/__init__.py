"""Concepts over time: what blocks add at each step, the parts that it means, and the final layout.

It may import what ``analyses`` may import.
"""
