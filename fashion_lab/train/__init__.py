"Training that can be stopped and resumed, fine-tuning, several seeds at once"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    optim='optimiser',
    callbacks='BestEpoch Checkpoint EpochLog',
    loop='Fit RangeTest fit lr_range_test predict_probs',
    classifier='PhotoClassifier classify',
    recipe='Recipe',
    finetune='fit_classifier',
    stacked='fit_stacked',
))
