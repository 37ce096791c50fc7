"Smaller networks: pruning, weight sharing, distillation, low rank"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    pruning='fit_widths magnitude_masks prune_channels sparsity',
    weight_sharing='load_shared save_shared share_weights',
    distill='Distillation distillation_loaders teacher_logits',
    low_rank='factorise separable',
))
