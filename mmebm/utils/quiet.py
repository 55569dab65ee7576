"""Keep messages of other libraries off the terminal that a user cannot act on."""

import logging
import warnings

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


class WithoutPrefixes(logging.Filter):
    """Drops records whose message begins with one of ``prefixes``."""

    def __init__(self, prefixes: tuple[str, ...]):
        super().__init__()
        self.prefixes = prefixes

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.prefixes)


def quiet_terminal(logger: MMLogger) -> None:
    """Keep :data:`NOT_FOR_THE_TERMINAL` off the terminal; the log file still has them."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(WithoutPrefixes(NOT_FOR_THE_TERMINAL))


def quiet_torch() -> None:
    """Drop :data:`NO_GPU`, logged when PyTorch first compiles for a CPU, and :data:`MESHGRID`.

    For tools only: the filters stay for the rest of the process.
    """
    logging.getLogger('torch.utils.cpp_extension').addFilter(WithoutPrefixes((NO_GPU,)))
    warnings.filterwarnings('ignore', MESHGRID, UserWarning)
