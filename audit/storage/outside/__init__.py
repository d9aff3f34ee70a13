"""Safe handling of untrusted input and output: JSON, CSV, pictures, and text that is safe to print.

It imports nothing from ``audit``.
"""
