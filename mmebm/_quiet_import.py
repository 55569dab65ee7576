"""Imports MMPretrain without what it says about optional packages that mmebm does not need."""

import contextlib
import io
import warnings

import mmengine.model  # noqa: F401  first, so that filters which torch installs stay

UNUSED_OPERATORS = 'Fail to import ``MultiScaleDeformableAttention``'
UNUSED_DATASETS = 'Could not import OneDL'


def import_quietly() -> None:
    """Imports MMCV's transformer layers and MMPretrain's datasets.

    MMCV warns that its compiled operators are missing, MMPretrain's fork prints that the client of
    a data service is. The user can do nothing about either, since nothing here uses them. Filters
    of warnings and the standard output are as before when this returns.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', UNUSED_OPERATORS, UserWarning)
        import mmcv.cnn.bricks.transformer  # noqa: F401
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            import mmpretrain.datasets  # noqa: F401
    finally:
        lines = printed.getvalue().splitlines()
        for line in lines:
            if line != UNUSED_DATASETS:
                print(line)
