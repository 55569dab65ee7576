"""What a comparison is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ...utils import checked_int, checked_number, nearest_name

PROTOCOLS = ('finetune', 'probe', 'knn')


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of :class:`Benchmark`, and of ``mmebm benchmark`` by the same names.

    Attributes:
        data_root: holds ``train/CLASS/IMAGE`` and ``test/CLASS/IMAGE``.
        out: where runs and results go.
        methods: None takes all that the backbone has, but BEiT, which needs its tokenizer's
            weights.
        backbone: one of configs/small; or ``timm/NAME``, ``mmpretrain/NAME`` or a config file.
        image_size: side in pixels, ≥ 8. None takes the backbone's own, which is 32 in
            configs/small; images for 32 must be of this size, for others they are cropped to it.
        protocols: of :data:`PROTOCOLS`; the first one chooses each method's learning rate of
            pretraining.
        seeds: the first one makes the choices.
        pretraining_epochs: one run per length, each ≥ 2, with its own schedule; the first one makes
            the choices.
        epochs: of finetuning, ≥ 2.
        pretraining_lrs, lrs, layer_decays: the grid that every method is tried on, each > 0.
        val_share: of the training images for the choices, in (0, 1).
        split_seed: of that split.
        labels_per_class: labelled images for finetuning and probes; None takes all outside the
            validation split.
        width, depth: channels and layers of the ViT; None leaves them.
        num_steps: N of the energy methods, ≥ 0; None leaves it.
        batch_size: of pretraining; None leaves it.
        workers: processes that load images, ≥ 0; None leaves them.
        jobs: training runs at the same time, ≥ 1.

    Raises:
        TypeError, ValueError: an option of the wrong kind or out of its range.
    """

    data_root: str
    out: str
    methods: Sequence[str] | None = None
    backbone: str = 'vit-micro-p4'
    image_size: int | None = None
    protocols: Sequence[str] = PROTOCOLS
    seeds: Sequence[int] = (0,)
    pretraining_epochs: Sequence[int] = (40,)
    epochs: int = 40
    pretraining_lrs: Sequence[float] = (1e-3, 3e-3)
    lrs: Sequence[float] = (1e-3, 3e-3)
    layer_decays: Sequence[float] = (0.75, 1.0)
    val_share: float = 0.1
    split_seed: int = 0
    labels_per_class: int | None = None
    width: int | None = None
    depth: int | None = None
    num_steps: int | None = None
    batch_size: int | None = None
    workers: int | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        least = dict(
            image_size=8, seeds=0, pretraining_epochs=2, epochs=2, split_seed=0,
            labels_per_class=1, width=1, depth=1, num_steps=0, batch_size=1, workers=0, jobs=1,
        )  # fmt: skip
        for name, minimum in least.items():
            for value in self._values(name):
                checked_int(name, value, minimum)
        for name in ('pretraining_lrs', 'lrs', 'layer_decays'):
            for value in self._values(name):
                checked_number(name, value, above=0)
        checked_number('val_share', self.val_share, above=0, below=1)
        for field in fields(self):
            values = getattr(self, field.name)
            if isinstance(values, list | tuple) and (not values or len(set(values)) < len(values)):
                raise ValueError(
                    f'{field.name} must be different values, at least one, got {values}'
                )
        unknown = [p for p in self.protocols if p not in PROTOCOLS]
        if unknown:
            near = nearest_name(unknown[0], PROTOCOLS)
            raise ValueError(f'protocols must be of {", ".join(PROTOCOLS)}, got {unknown[0]}{near}')

    def _values(self, name: str) -> list:
        value = getattr(self, name)
        values = value if isinstance(value, list | tuple) else [value]
        return [v for v in values if v is not None]


def class_folders(data_root: Path, part: str) -> list[Path]:
    """The class sub-folders of ``train`` or ``test``, in the order of their labels."""
    return sorted(path for path in (data_root / part).iterdir() if path.is_dir())
