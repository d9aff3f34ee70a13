"""Tables of what arms do beside their effect: joint targets, prompts that differ in one word, edits off the path.

It may import the other modules of ``reports.figures``, ``reports.index`` and ``reports.words``, but no evidence.
"""
