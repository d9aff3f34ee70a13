"""Sections that change no image of an audit: what ``explore`` reads, and what the auditor states.

It may import ``fields``.
"""
