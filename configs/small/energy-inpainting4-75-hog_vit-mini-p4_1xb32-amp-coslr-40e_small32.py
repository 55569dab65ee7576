"""An energy of the masked patches of 32² images and of their edges, with the ViT of 0.5 M parameters.

DATA_ROOT=data/cifar10 python tools/train.py \
    configs/small/energy-inpainting4-75-hog_vit-mini-p4_1xb32-amp-coslr-40e_small32.py

Paper: no row; an arm of the comparison in docs/small_data.md: after 6 epochs linear probe 53.9 %, finetuned 67.1 %.
"""

_base_ = './energy-inpainting4-75-hog_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'

model = dict(
    backbone=dict(arch=dict(embed_dims=96, num_layers=4, feedforward_channels=384)),
    head=dict(in_channels=96),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=2e-3 * 32 / 32))
auto_scale_lr = dict(base_batch_size=32)
