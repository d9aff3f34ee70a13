"""What recorded updates show: measures of dictionaries, predictions of the layout, concepts over time, edits by stage.

It may import ``analyses``, ``measure`` and ``records``.
"""
