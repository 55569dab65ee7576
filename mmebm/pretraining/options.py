"""What a pretraining is asked for."""

from dataclasses import dataclass

from ..options import check_options, option

CORRUPTIONS = ('mixed', 'masking', 'super-resolution', 'denoising', 'colorization')
LENGTHS = ('hours', 'epochs', 'iterations')


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """Options of :func:`mmebm.pretrain` and of ``mmebm pretrain``; each says what it does.

    Raises:
        TypeError, ValueError: a value cannot be used.
    """

    data: tuple[str, ...] = option(
        help='folders of images, at any depth and without labels; or lists, a path per line',
        flags=('data',),
    )
    backbone: str = option(help='timm/NAME, mmpretrain/NAME (a model or a class), or a config file')
    out: str = option(help='folder for all files of the run; the same command continues it')
    start: str | None = option(None, 'file of weights to start from (default: random)')
    hours: float | None = option(None, 'length: time in all, by the measured speed', above=0)
    epochs: int | None = option(None, 'or passes over the images (default: 100)', low=1)
    iterations: int | None = option(
        None, 'or updates of the weights; above 200 rounded to whole rounds', low=1
    )
    image_size: int | None = option(
        None, "image side in pixels (default: the backbone's own)", low=8
    )
    energy: str = option(
        'restoration',
        "the paper's, for any backbone, to restore and score images; or of masked patches, for the "
        'features of a ViT',
        choices=('restoration', 'inpainting'),
    )
    corruption: str | None = option(
        None, 'corruption to restore (default: mixed)', choices=CORRUPTIONS
    )
    num_steps: int = option(
        1,
        "steps of descent; the paper's 2 take twice as long",
        low=1,
        flags=('--steps', '--num-steps'),
    )
    keep_batch_norm: bool = option(False, 'do not replace batch norms by group norms')
    held_out: int | None = option(None, 'images for validation only (default: 5 %)', low=1)
    seed: int = option(0, 'seed of weights, order and corruptions', low=0)
    batch_size: int | None = option(
        None, 'images per process (default: 256 on a GPU, else 32, halved until they fit)', low=1
    )
    learning_rate: float | None = option(
        None,
        'learning rate (default: 1e-3 × batch / 32, at most 1e-3)',
        above=0,
        flags=('--lr', '--learning-rate'),
    )
    precision: str | None = option(
        None,
        'number format of the forward pass (default: bfloat16 where the device has it)',
        choices=('float32', 'bfloat16', 'float16'),
    )
    workers: int | None = option(
        None, 'processes that load images (default: a core each but one, at most 8)', low=0
    )
    compile_step: bool | None = option(
        None,
        'compile the training step (default: on a GPU, for an hour or more)',
        flags=('--compile',),
    )

    def __post_init__(self) -> None:
        check_options(self)
        lengths = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise ValueError(f'only one of hours, epochs and iterations fits, got {lengths}')
        if self.energy == 'restoration' and self.corruption is None:
            object.__setattr__(self, 'corruption', 'mixed')
        elif self.energy == 'inpainting' and self.corruption is not None:
            raise ValueError(
                f'corruption {self.corruption!r} is for energy restoration, got energy inpainting'
            )
