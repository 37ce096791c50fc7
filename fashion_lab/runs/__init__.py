"Runs on disk, their tables, sweeps and searches"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    run='Run all_runs find_run',
    draft='save_weights start_run unfinished',
    results='publish read_results recorded table',
    ablation='Variant',
    sweeps='Sweep grid sweep',
    tuning='search',
))
