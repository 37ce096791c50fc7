"Pairs of shoes: networks, training, verification and background checks"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    models='CNN CNNChannel HeadPair SiamesePair',
    predictor='pair_data',
    train='fit_head_pair fit_network fit_siamese',
    metrics='match_shoes pair_predictions plot_pairs verification',
))
