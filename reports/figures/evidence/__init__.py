"""What those who rely on an audit ask for: the auditor's statement, impact ratios, departures from the protocol.

May import ``reports.words`` and ``reports.index``, and tables of ``reports.figures``.
"""
