"""What a comparison is asked for."""

from dataclasses import dataclass

from ..options import check_options, option

PROTOCOLS = ('finetune', 'probe', 'knn')


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """Options of :class:`mmebm.benchmark.comparison.Benchmark` and of ``mmebm benchmark``."""

    data_root: str = option(
        help='folder with train/CLASS/IMAGE and test/CLASS/IMAGE',
        flags=('data_root',),
        metavar='FOLDER',
    )
    out: str = option(help='output folder', metavar='FOLDER')
    methods: tuple[str, ...] | None = option(
        None,
        'scratch, names in configs/small (mae, energy-mixed, ...) or files of pretraining configs; '
        'scratch and all of configs/small by default',
        metavar='CONFIG',
    )
    backbone: str = option(
        'vit-micro-p4', 'of configs/small, or the file of a finetuning config', metavar='NAME'
    )
    protocols: tuple[str, ...] = option(
        PROTOCOLS,
        'what is measured; the first one chooses the learning rate of pretraining',
        choices=PROTOCOLS,
    )
    seeds: tuple[int, ...] = option((0,), 'the first one chooses the rates', low=0)
    pretraining_epochs: tuple[int, ...] = option(
        (40,), 'one run per length; the first one chooses the rates', low=1, metavar='EPOCHS'
    )
    epochs: int = option(40, 'epochs of finetuning', low=1)
    pretraining_lrs: tuple[float, ...] = option(
        (1e-3, 3e-3), 'learning rates of pretraining to try', above=0, metavar='LR'
    )
    lrs: tuple[float, ...] = option(
        (1e-3, 3e-3), 'learning rates of finetuning to try', above=0, metavar='LR'
    )
    layer_decays: tuple[float, ...] = option(
        (0.75, 1.0), 'layer-wise decays of that rate to try', above=0, metavar='DECAY'
    )
    labels_per_class: int | None = option(
        None, 'labelled images per class, all that are left by default', low=1, metavar='N'
    )
    workers: int = option(2, 'data-loading processes', low=0)

    __post_init__ = check_options
