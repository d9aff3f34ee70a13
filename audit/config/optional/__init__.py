"""Sections that change no image of an audit: what ``explore`` and ``concepts`` read, and what the auditor states.

It may import ``fields``.
"""
