"""What a pretraining is asked for."""

from dataclasses import dataclass

from ..options import check_options, option

CORRUPTIONS = ('mixed', 'masking', 'super-resolution', 'denoising', 'colorization')
ENERGIES = ('restoration', 'inpainting')
PRECISIONS = ('float32', 'bfloat16', 'float16')
TRACKERS = dict(wandb='Wandb', mlflow='MLflow', clearml='ClearML', aim='Aim')  # in MMEngine
LENGTHS = ('hours', 'epochs', 'iterations')


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """Options of :func:`mmebm.pretrain` and of ``mmebm pretrain``; each says what it does.

    Raises:
        TypeError, ValueError: a value cannot be used.
    """

    data: tuple[str, ...] = option(help='image folders, or lists of paths', flags=('data',))
    backbone: str = option(help='timm/NAME, mmpretrain/NAME (a model or a class), or a config file')
    out: str = option(help='output folder; the same command continues the run in it')
    start: str | None = option(None, 'file of weights to start from (default: random)')
    hours: float | None = option(None, 'length of the run, fitted to the measured speed', above=0)
    epochs: int | None = option(None, 'or passes over the images (default: 100)', low=1)
    iterations: int | None = option(None, 'or weight updates; above 200 rounded', low=1)
    image_size: tuple[int, ...] | None = option(
        None, "side, or height and width, in pixels (default: the backbone's)", low=8, metavar='N'
    )
    channels: int | None = option(None, '1 for a backbone of grey images', choices=(1, 3))
    energy: str = option('restoration', 'energy of images, or of patches', choices=ENERGIES)
    corruption: str | None = option(None, 'to restore (default: mixed)', choices=CORRUPTIONS)
    num_steps: int = option(1, 'descent steps; 2 in the paper', ('--steps', '--num-steps'), low=1)
    held_out: int | None = option(None, 'images for validation only (default: 5 %)', low=1)
    seed: int = option(0, 'seed of weights, image order and corruptions', low=0)
    batch_size: int | None = option(
        None, 'images per process (default: 256 on a GPU, else 32; halved until it fits)', low=1
    )
    learning_rate: float | None = option(
        None,
        'default: 1e-3 × batch / 32, at most 1e-3',
        ('--lr', '--learning-rate'),
        above=0,
    )
    precision: str | None = option(None, 'precision (default: bfloat16)', choices=PRECISIONS)
    tracker: str | None = option(None, 'where figures go, too', choices=tuple(TRACKERS))
    workers: int | None = option(None, 'data-loading processes (default: by cores)', low=0)
    compile_step: bool | None = option(
        None, 'compile the training step (default: on a GPU, from an hour on)', ('--compile',)
    )

    def __post_init__(self) -> None:
        if isinstance(self.image_size, int):
            object.__setattr__(self, 'image_size', (self.image_size,))
        check_options(self)
        size = self.image_size or (None,)
        if len(size) > 2:
            raise ValueError(f'image_size must be one value, or height and width, got {size}')
        object.__setattr__(self, 'image_size', size if len(size) > 1 else size[0])
        lengths = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise ValueError(f'give only one of hours, epochs and iterations, got {lengths}')
        if self.energy == 'restoration' and self.corruption is None:
            object.__setattr__(self, 'corruption', 'mixed')
        elif self.energy == 'inpainting' and self.corruption is not None:
            raise ValueError(
                f'corruption {self.corruption!r} is for energy restoration, got energy inpainting'
            )
