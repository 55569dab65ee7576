# Table A, pretraining column, 800 epochs.
_base_ = './adamw_bs256_100e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=40, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=760,
        begin=40,
        end=800,
        eta_min=0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=800)
