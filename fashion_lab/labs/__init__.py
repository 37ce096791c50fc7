"The labs: each with `Config`, `configs`, `run`, `report` and `predict`"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    registry='LABS lab_module',
))
