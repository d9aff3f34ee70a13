"""Statistical power: what a number of images can detect, computed before any image is made.

Power is exact: the probability, summed over every outcome, that the test which the audit will use rejects parity
(:func:`audit.measure.discrepancy.estimate.parity_p_value`), or that a gate's interval decides. Where there are too many
outcomes to sum, it is estimated from samples with a fixed seed, ± 1 percentage point.

With several tests, power is that of one test at its first step of Holm or of Benjamini–Hochberg, ``planned_level``: the
promise then holds even where everything else is at parity, and is exceeded where other tests reject too.

Legend: n images of one prompt and arm, K groups, m outcomes, π true shares, r the target, d = ‖π − r‖₂.

It may import ``measure`` and ``records``.
"""
