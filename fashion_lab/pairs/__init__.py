"Pairs of shoes: networks, training, verification and background checks"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    models='CNN CNNChannel HeadPair SiamesePair',
    train='fit_head_pair fit_network fit_siamese pair_data',
    metrics='match_shoes pair_predictions plot_pairs verification',
))
