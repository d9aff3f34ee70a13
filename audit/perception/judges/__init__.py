"""Judges: which groups are perceived in an image, what a judge can be asked, and how often it errs.

It may import ``perception.embedders`` and whatever ``perception`` may.
"""
