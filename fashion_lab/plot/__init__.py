"Figures in one style"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    theme='canvas dress save_figures style',
    classification='plot_confusion plot_per_class plot_reliability',
    images='plot_mistakes plot_predictions plot_samples',
    datasets='plot_balance plot_set',
    results='plot_accuracy_time plot_comparison plot_history',
))
