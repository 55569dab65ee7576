"""MMEngine's runner, as every training of this project builds it."""

from mmengine.config import Config
from mmengine.runner import Runner

from ..utils.checkpoint import register_safe_loader
from ..utils.whole_files import register_whole_files
from .hooks import BoundedHistoryHook, MissedValidationHook


def runner_of(config: Config) -> Runner:
    """Build the runner, with what makes a run survive interruptions and long trainings.

    Checkpoints are loaded without running code and written as a whole; logged figures are bounded;
    a resumed run makes up for the validation that it missed.
    """
    register_safe_loader()
    register_whole_files()
    runner = Runner.from_cfg(config)
    runner.register_hook(BoundedHistoryHook())
    if config.get('resume'):
        runner.register_hook(MissedValidationHook())
    return runner
