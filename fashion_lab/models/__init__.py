"Networks: backbones with pretrained weights, frozen features, and the small ones of the labs"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    cards='BACKBONES backbone_card',
    layers='CustomCNN head',
    weights='load_weights match_state read_weights',
    backbones='Backbone backbone backbone_costs',
    features='clear_features frozen_features',
    fashion_mnist='FashionCNN SmallCNN',
))
