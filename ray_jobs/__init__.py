"""Runs an audit on Ray: the only package that imports ray."""
