"""Other kernels for the same network: faster, with other last bits.

It may import ``audit.models.files``.
"""
