"Drawn stand-ins for all five data sets, which always say that they are synthetic"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    classes='CLOSURES CLOTHING_CLASSES FACADE_CLASSES FASHION_CLASSES',
    fashion_mnist='synthetic_fashion_mnist',
    closure_drawer='ClosureDrawer synthetic_closures',
    pair_drawer='PairDrawer synthetic_shoe_pairs',
    garments='draw_clothing',
    clothing_drawer='ClothingDrawer synthetic_clothing',
    facades='draw_facade',
    facade_drawer='FacadeDrawer synthetic_facades',
))
