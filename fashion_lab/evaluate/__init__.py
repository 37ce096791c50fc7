"Metrics with intervals, and paired comparisons"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    predictions='Predictions align',
    classification='confusion per_class reliability',
    groups='group_summary',
    repeats='mean_over_runs',
    bootstrap='metric_interval metrics',
    significance='compare holm mcnemar metric_difference paired_seeds seeds_needed',
))
