"What stands on top of the labs: the command, all labs in one go, the gallery, results"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    results='headline recorded_labs show_scores',
    all_labs='run_all_labs',
    gallery='plot_labs',
    package='export_run',
    cli='main',
))
