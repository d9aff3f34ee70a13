"""Statistics of attributes that no list names: components of embeddings, their two states, and differences in rates.

It may import ``inference`` and ``records``.
"""
