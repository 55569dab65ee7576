"""Import MMPretrain without its messages about optional packages that mmebm does not need."""

import contextlib
import io
import warnings

import mmengine.model  # noqa: F401  first, so that the filters that torch installs stay


def import_quietly() -> None:
    """Import MMCV's transformer layers and MMPretrain's datasets; filters and stdout stay."""
    with warnings.catch_warnings():
        unused = 'Fail to import ``MultiScaleDeformableAttention``'  # compiled operators
        warnings.filterwarnings('ignore', unused, UserWarning)
        import mmcv.cnn.bricks.transformer  # noqa: F401
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        import mmpretrain.datasets  # noqa: F401
    for line in printed.getvalue().splitlines():
        if line != 'Could not import OneDL':  # the client of a data service
            print(line)
