"What a network costs: parameters, operations, memory and time"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    counts='count_flops count_macs count_params cross_check hand_macs',
    timing='cost latency',
    layers='layer_table totals',
    receptive_field='receptive_fields',
    roofline='measure_machine',
    models='named_model',
))
