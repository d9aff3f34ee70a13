"""What comes from outside and what is shown outside: JSON, CSV, pictures, and text made safe to print.

It imports nothing of ``audit``.
"""
