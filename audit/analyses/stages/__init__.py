"""Edits of concepts in early, middle and final steps: into a part of the picture, or everywhere.

It may import ``analyses.concepts`` and what ``analyses`` may import.
"""
