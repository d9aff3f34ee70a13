"""Checks a config against this machine and the files that it names, and counts the work of an audit.

It may import ``dissect``, ``perception``, ``models``, ``planning`` and what they import. No weights are loaded.
"""
