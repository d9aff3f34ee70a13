"""Persons in pictures: where they are, as crops that show clothes too.

It may import ``faces``, ``judges`` and what they import.
"""
