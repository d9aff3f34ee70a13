"""Which clauses of which texts an audit can be evidence for, as data, and how much of each a result holds.

It may import nothing else of ``audit``.
"""
