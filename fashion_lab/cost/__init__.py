"What a network costs: parameters, operations, memory and time"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    counts='count_params hand_macs',
    macs='count_macs',
    flops='count_flops cross_check',
    timing='cost latency',
    layers='layer_table totals',
    receptive_field='receptive_fields',
    roofline='measure_machine',
    models='named_model',
))
