"""What all algorithms share: prediction, two images per sample, pixel units, data samples."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

# B batch, C channels, H × W pixels.


class PredictingSelfSupervisor(BaseSelfSupervisor):
    """A pretraining method that can be validated: MMPretrain's own have no ``mode='predict'``."""

    @abstractmethod
    def predict(
        self, inputs: Tensor | Sequence[Tensor], data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """Restore and score a validation batch, for the metrics."""

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ):
        """MMEngine's entry: ``mode`` is ``'loss'``, ``'predict'`` or ``'tensor'`` (features)."""
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)


def corrupted_and_clean(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The two images of a pipeline that has a corruption, each ``(B, C, H, W)``.

    Raises:
        TypeError: these are not two.
    """
    if not isinstance(inputs, Sequence) or len(inputs) != 2:
        got = f'{len(inputs)} of them' if isinstance(inputs, Sequence) else type(inputs).__name__
        raise TypeError(
            f'inputs must be [corrupted, clean], two tensors (B, C, H, W), got {got}. Is a '
            'corruption missing in the pipeline?'
        )
    return inputs[0], inputs[1]


def to_pixels(images: Tensor, data_preprocessor: nn.Module) -> Tensor:
    """Undo the normalisation of a data preprocessor: ``(..., C, H, W)`` in 0..255."""
    if not data_preprocessor._enable_normalize:
        return images
    return images * data_preprocessor.std + data_preprocessor.mean


def with_fields(
    data_samples: list[DataSample] | None, fields: Mapping[str, Tensor]
) -> list[DataSample]:
    """Write figures of a batch into its data samples.

    Args:
        data_samples: B of them; new ones where there are none.
        fields: by name, ``(B, ...)`` each.
    """
    data_samples = data_samples or [DataSample() for _ in next(iter(fields.values()))]
    for i, sample in enumerate(data_samples):
        for name, values in fields.items():
            sample.set_field(values[i], name)
    return data_samples
