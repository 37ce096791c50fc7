"Data cards, files, photos, splits and loaders: from a folder to batches"
from ..core import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, dict(
    cards='CARDS DataError MissingData card',
    images='read_image',
    image_cache='DecodedCache',
    image_table='ImageTable',
    dataset='PhotoSet',
    folders='load_folder',
    photo_tables='load_csv',
    registry='describe load',
    folds='group_folds group_split',
    loaders='table_loaders',
))
