"Metrics with intervals, and paired comparisons"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    predictions='Predictions align',
    classification='confusion per_class reliability',
    bootstrap='bootstrap_ci metrics',
    significance='compare holm mcnemar paired_bootstrap paired_seeds seeds_needed',
))
