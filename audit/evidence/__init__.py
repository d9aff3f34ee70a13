"""What makes an audit evidence for others: the statement, the protocol that came first, and the signed bundle.

It may import every other package of ``audit``; none of them imports it.
"""
