"Networks as files that answer without this package"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    onnx='OnnxNet to_onnx with_pixels',
    int8='agreement quantise quantise_checked',
    formats='FORMATS to_torch_export write_export',
    answering='photo_pixels',
    web='write_web',
))
