# Table A, pretraining column, 200 epochs.
_base_ = './adamw_bs256_100e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=180,
        begin=20,
        end=200,
        eta_min=0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=200)
