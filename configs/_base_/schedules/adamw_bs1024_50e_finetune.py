# Table A, finetuning column, 50 epochs.
_base_ = './adamw_bs1024_100e_finetune.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=45,
        begin=5,
        end=50,
        eta_min=1e-6,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=50)
