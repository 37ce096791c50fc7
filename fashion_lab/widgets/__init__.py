"Explorers with controls, for notebooks"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    base='Explorer',
    costs='explore_costs',
    fields='explore_field',
    masks='explore_overlay',
    data='browse',
    runs='compare_runs',
    confusion='open_confusion',
    rates='explore_rates',
    pairs='match_pair',
    segments='open_segments',
    photos='try_photo',
))
