"Trained networks that answer right after installation"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    models='model_card model_facts model_names probabilities',
    answers='answers',
    training='BODY ZooBody',
    build='build_zoo',
))
