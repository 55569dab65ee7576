"""Import MMPretrain without its messages about optional packages that mmebm does not need."""

import contextlib
import io
import warnings

import mmengine.model  # noqa: F401  first, so that the filters that torch installs stay

UNUSED_OPERATORS = 'Fail to import ``MultiScaleDeformableAttention``'
UNUSED_DATASETS = 'Could not import OneDL'


def import_quietly() -> None:
    """Import MMCV's transformer layers and MMPretrain's datasets.

    MMCV warns that its compiled operators are missing; MMPretrain's fork prints that the client of
    a data service is. Nothing here uses either. Warning filters and the standard output are
    restored afterwards.
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
