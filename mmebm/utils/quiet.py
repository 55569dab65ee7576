"""Keep messages of other libraries off the terminal that a user cannot act on."""

import logging
import warnings
from collections.abc import Callable

from mmengine.logging import MMLogger

# MMEngine's use of its own deprecated names, and one line per parameter of the optimizer
NOT_FOR_THE_TERMINAL = (
    '"FileClient" will be deprecated in future',
    '"HardDiskBackend" is the alias of "LocalBackend"',
    'paramwise_options -- ',
)
# PyTorch's if there is a CUDA compiler but no GPU; it then compiles for the CPU
NO_GPU = 'No CUDA runtime is found, using CUDA_HOME='
# PyTorch's about a call in MMPretrain's BEiT and Swin
MESHGRID = 'torch.meshgrid: in an upcoming release'


def without(*prefixes: str) -> Callable[[logging.LogRecord], bool]:
    """A filter that drops records whose message begins with one of ``prefixes``."""
    return lambda record: not record.getMessage().startswith(prefixes)


def quiet_terminal(logger: MMLogger) -> None:
    """Keep :data:`NOT_FOR_THE_TERMINAL` off the terminal; the log file still has them."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(without(*NOT_FOR_THE_TERMINAL))


def quiet_torch() -> None:
    """Drop :data:`NO_GPU`, logged when PyTorch first compiles for a CPU, and :data:`MESHGRID`."""
    logging.getLogger('torch.utils.cpp_extension').addFilter(without(NO_GPU))
    warnings.filterwarnings('ignore', MESHGRID, UserWarning)
