"Segmentation of photos: networks, training, metrics, tiles and figures"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    models='PlainSegNet UNet segment_costs',
    metrics='SegmentScores class_table segment_metrics',
    tiles='segment_photo tiled_probs',
    train='SegmentRecipe fit_segmenter mask_probs',
    plots='plot_overlay plot_segments',
))
