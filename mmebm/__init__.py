"""mmebm: energy-based self-supervised pretraining for MMPretrain.

CONTRIBUTING.md says what each folder holds; nothing imports upwards. Importing this package
registers everything in MMPretrain's registries, and the configs in its model hub.
"""

# ruff: noqa: E402
import os
import sys

if sys.argv[0] == '-m' and 'mmebm' in sys.orig_argv:  # python -m mmebm: look before what is slow
    from .cli.main import check_early, parse

    check_early(parse())

# OpenCV reads it when it is imported; its own limit lets an image of some kB fill 3 GB. Pillow's.
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(2 * 89_478_485))

from ._compat import check_versions, installed_versions

check_versions(installed_versions())  # before anything below fails on what is missing or too old

from ._quiet_import import import_quietly

import_quietly()  # before anything below imports the same and the user sees warnings

from ._model_index import register_models
from .backbones import PlainConvNet, load_backbone
from .corruptions import (
    BaseCorruption,
    Blur,
    Colorization,
    Fog,
    FrequencyMask,
    GaussianNoise,
    GriddedMask,
    JPEGCompression,
    MixedCorruption,
    RandomBlockMask,
    Shuffle,
    SuperResolution,
)
from .datasets import ImageFolder, RoundSampler
from .engine import LayerDecayOptimWrapperConstructor, MixedPrecisionOptimWrapper
from .engine.hooks import (
    BoundedHistoryHook,
    FiniteLossHook,
    GracefulStopHook,
    MissedValidationHook,
    NeighbourAccuracyHook,
    PretrainedBackboneHook,
    ReproducibleEpochsHook,
    RestorationVisualizationHook,
    SinCosPositionEmbeddingHook,
    UnreadableImagesHook,
)
from .evaluation import EnergyMetric, RestorationMetric, SortingMetric, knn_predict
from .models import (
    EnergyHead,
    EnergyInpaintingAlgorithm,
    EnergyRestorationAlgorithm,
    EnergySortingAlgorithm,
    PatchEnergyHead,
    PatchHOG,
    PositionDecoder,
    RestorationAutoEncoder,
    RestorationDataPreprocessor,
    SortingAutoEncoder,
    descend,
    descent_step,
    energy_gradient,
)
from .models.chain import Chain
from .report.hook import ReportHook
from .restorer import Damage, Restorer
from .version import __version__

register_models()


def __getattr__(name: str):
    if name in ('PretrainingRun', 'pretrain'):  # import timm, which is slow
        from .pretraining import run

        return getattr(run, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


_PUBLIC = {
    name
    for name, value in globals().items()
    if (getattr(value, '__module__', None) or '').startswith('mmebm.')
    and not value.__module__.startswith('mmebm._')
}
__all__ = sorted(_PUBLIC | {'PretrainingRun', '__version__', 'pretrain'})
