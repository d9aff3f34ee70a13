"""Frozen records that are passed between the steps of an audit.

Only the standard library is imported here, so that planning and validating a config start without delay.
"""
