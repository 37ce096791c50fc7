"Drawn stand-ins for all five data sets, which always say that they are synthetic"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    fashion_mnist='FASHION_CLASSES synthetic_fashion_mnist',
    shoe_kinds='CLOSURES',
    closure_drawer='ClosureDrawer synthetic_closures',
    pair_drawer='PairDrawer synthetic_shoe_pairs',
    garments='CLOTHING_CLASSES draw_clothing ClothingDrawer synthetic_clothing',
    facades='FACADE_CLASSES draw_facade FacadeDrawer synthetic_facades',
))
