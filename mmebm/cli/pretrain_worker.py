"""One of several processes of ``mmebm pretrain``, which starts it with the run's folder."""

import os
import signal
import sys
import threading
from pathlib import Path

from mmengine.config import Config

from ..apis.pretraining.run import train_with
from ..engine.runner import close_process_group, runner_of
from ..utils.checkpoint import newest_sound_checkpoint
from .errors import one_line_errors
from .pretrain_command import GO_ON


def main(out: str) -> None:
    with one_line_errors('mmebm pretrain', GO_ON):
        config = Config.fromfile(Path(out, 'config.py'))
        config.launcher = 'pytorch'
        os.chdir(out)  # MMEngine exchanges validations in a folder there, which all must see
        for loader in (config.train_dataloader, config.val_dataloader):
            loader.pop('worker_init_fn', None)  # in this process's group, with which they end
        config.load_from = newest_sound_checkpoint(out).path
        config.resume = config.load_from is not None
        train_with(config, runner_of)
        close_process_group()


def start() -> None:
    """Train the run in the folder that the command line names."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_the_command, daemon=True).start()
    main(sys.argv[1])


def _end_with_the_command() -> None:
    """Kill this process and those that load its images when the command is gone."""
    os.read(0, 1)  # nothing is ever written: it returns when the other end is closed
    os.killpg(0, signal.SIGKILL)
