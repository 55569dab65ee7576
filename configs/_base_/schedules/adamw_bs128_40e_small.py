# 40 epochs on small images. Ours: ten times Table A's learning rate, for a small network and few
# iterations. The position embedding of a ViT stays at its sin-cos start for every method (as in MAE);
# finetuning trains it.
_base_ = './adamw_bs256_100e.py'

optim_wrapper = dict(
    optimizer=dict(lr=1e-3 * 128 / 128),
    paramwise_cfg=dict(custom_keys=dict(pos_embed=dict(lr_mult=0.0))),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=2, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=38, begin=2, end=40, eta_min=0, convert_to_iter_based=True
    ),
]
train_cfg = dict(max_epochs=40)
auto_scale_lr = dict(base_batch_size=128)
