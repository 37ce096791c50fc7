"Explorers with controls, for notebooks"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    base='Explorer',
    costs='explore_costs explore_field',
    masks='explore_overlay',
    data='browse',
    uploads='match_pair open_segments try_photo',
    runs='compare_runs explore_rates open_confusion',
))
