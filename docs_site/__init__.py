"""Builds the documentation site: hand-written pages from ``docs/``, reference pages from the program itself."""
