"Drawn stand-ins for all five data sets, which always say that they are synthetic"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    fashion_mnist='FASHION_CLASSES synthetic_fashion_mnist',
    shoe_kinds='CLOSURES',
    closure_drawer='ClosureDrawer synthetic_closures',
    pair_drawer='PairDrawer synthetic_shoe_pairs',
    clothing_classes='CLOTHING_CLASSES',
    garments='draw_clothing',
    clothing_drawer='ClothingDrawer synthetic_clothing',
    facade_classes='FACADE_CLASSES',
    facades='draw_facade',
    facade_drawer='FacadeDrawer synthetic_facades',
))
