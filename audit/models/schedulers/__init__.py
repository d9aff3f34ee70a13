"""Schedulers of published pipelines: what their configs say, and whether their steps can be taken.

It may import ``audit.models.files``.
"""
