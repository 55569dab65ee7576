"""What MMEngine's runner calls during a run."""

from .layer_decay import LayerDecayOptimWrapperConstructor
from .optim_wrapper import MixedPrecisionOptimWrapper
from .runner import runner_of
