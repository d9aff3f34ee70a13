"""Instruments of the calibration model: networks that measure its pictures.

It may import what ``training`` may import, and ``training`` itself.
"""
