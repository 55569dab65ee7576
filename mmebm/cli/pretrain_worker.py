"""One of several processes of ``mmebm pretrain``; torchrun starts it with the run's folder."""

import sys
from pathlib import Path

from mmengine.config import Config

from ..apis.pretraining.run import train_with
from ..utils.checkpoint import newest_sound_checkpoint
from .errors import one_line_errors
from .launch import build_runner, close_process_group


def main(out: str) -> None:
    with one_line_errors('mmebm pretrain'):
        config = Config.fromfile(Path(out, 'config.py'))
        config.launcher = 'pytorch'
        config.load_from = newest_sound_checkpoint(out).path
        config.resume = config.load_from is not None
        train_with(config, lambda cfg: build_runner(cfg, 0))
        close_process_group()


if __name__ == '__main__':
    main(sys.argv[1])
