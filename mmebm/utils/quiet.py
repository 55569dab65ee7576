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


def without(*prefixes: str) -> Callable[[logging.LogRecord], bool]:
    """A filter that drops records whose message begins with one of ``prefixes``."""
    return lambda record: not record.getMessage().startswith(prefixes)


def quiet_terminal(logger: MMLogger) -> None:
    """Keep :data:`NOT_FOR_THE_TERMINAL` off the terminal; the log file still has them."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(without(*NOT_FOR_THE_TERMINAL))


def quiet_torch() -> None:
    """Drop PyTorch's messages on a missing GPU, and on a call in MMPretrain's BEiT and Swin."""
    no_gpu = 'No CUDA runtime is found, using CUDA_HOME='  # it then compiles for the CPU
    logging.getLogger('torch.utils.cpp_extension').addFilter(without(no_gpu))
    warnings.filterwarnings('ignore', 'torch.meshgrid: in an upcoming release', UserWarning)
