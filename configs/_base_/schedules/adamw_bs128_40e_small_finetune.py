# Finetuning for 40 epochs on small images. Ours: Table A's base learning rate unscaled, since the
# network is small and its iterations are few.
_base_ = './adamw_bs1024_100e_finetune.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3 * 128 / 128))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=35,
        begin=5,
        end=40,
        eta_min=1e-6,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=40)
auto_scale_lr = dict(base_batch_size=128)
