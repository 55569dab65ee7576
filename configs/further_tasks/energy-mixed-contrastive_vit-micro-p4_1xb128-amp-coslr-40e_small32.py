"""One of masking, super-resolution, denoising and colorization per image, on 32² images, and a loss
that compares energies: for a network that scores images.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/further_tasks/energy-mixed-contrastive_vit-micro-p4_1xb128-amp-coslr-40e_small32.py

Paper: no row; its loss never compares the energies of two images. A smaller network,
6 epochs: AUROC of the energy 0.92 instead of 0.77, 0.46 dB less restored (docs/restore_and_score.md).
"""

_base_ = '../small/energy-mixed_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

model = dict(contrastive_weight=0.1)
