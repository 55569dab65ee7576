"""What a run has learnt, in plain words: for the end of ``mmebm pretrain`` and its report."""

from collections.abc import Sequence

from torch import Tensor

FEW_IMAGES = 20  # figures of fewer are no headline
FEW_UPDATES = 1000
LOW_CONTRAST = 0.1  # of the features; a random network has about 1, MAE 0.4
LITTLE_GAIN = 0.1  # dB


def contrast(features: Tensor) -> float:
    """How much features ``(M, D)`` differ: root mean square deviation over their mean's norm.

    A random network has about 1. Near 0 all images look alike, and the backbone is worth nothing.
    """
    mean = features.mean(0)
    deviation = (features - mean).square().sum(1).mean().sqrt()
    return float(deviation / mean.norm())


def duration(seconds: float) -> str:
    """Such as ``52 seconds``, ``7.6 minutes`` or ``2.3 hours``."""
    if seconds < 100:
        return f'{seconds:.0f} seconds'
    value, unit = (seconds / 60, 'minutes') if seconds < 5400 else (seconds / 3600, 'hours')
    return f'{value:.1f} {unit}'


def verdict(
    updates: int,
    seconds: float,
    hours: float | None = None,
    gain: float | None = None,
    images: int = 0,
    features: tuple[float | None, float] | None = None,
    knn: Sequence[float] = (),
) -> list[str]:
    """Sentences: the cost, what was gained and against what, and whether to use the backbone.

    ``hours`` were asked for; ``gain`` is PSNR of restored minus PSNR of corrupted held-out
    ``images`` in dB; ``features`` their contrast at the start and now; ``knn`` accuracies in 0..1.
    """
    asked = '' if hours is None else f' ({duration(hours * 3600)} were asked for)'
    said = [f'{updates:,} weight updates in {duration(seconds)}{asked}.']
    few = f' Held-out images: {images}, too few to trust.' if images < FEW_IMAGES else ''
    features = features if images > 1 else None  # one image differs from nothing
    if gain is not None:
        gained = f'{gain:+.2f} dB' if gain >= LITTLE_GAIN else 'nothing'
        said.append(f'Restoring held-out images gains {gained} over doing nothing.')
    if features is not None:
        start = '' if features[0] is None else f', at the start {features[0]:.2f}'
        said.append(f'Contrast of the features: {features[1]:.2f}{start}.')
    if len(knn) > 1:
        said.append(f'kNN accuracy went from {knn[0]:.1%} to {knn[-1]:.1%}.')
    flat = features is not None and features[1] < LOW_CONTRAST
    idle = gain is not None and gain < LITTLE_GAIN
    if updates < FEW_UPDATES and (idle or flat):
        end = f'Too short: {updates:,} updates. Give it an hour.'
    elif flat:
        end = 'Not worth using: all images have nearly the same features. Try a smaller step_size.'
    elif idle:
        end = 'Not worth using: it restores nothing. Look at the images and the learning rate.'
    elif updates < FEW_UPDATES:
        end = 'It learns, but this is short: longer runs give better features.'
    else:
        end = 'Worth trying: compare it with training from scratch on your task.'
    return [*said, end + few]
