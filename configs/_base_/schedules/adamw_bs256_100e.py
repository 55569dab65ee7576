# Table A, pretraining column, 100 epochs.
# Ours (the paper does not say): the linear scaling rule, 10 % of the epochs as warm-up (at most 40, as
# in MAE), no weight decay on norms, biases, embeddings (as in MAE) and the step size, and ten times
# the learning rate for log α (docs/notes.md).
optim_wrapper = dict(
    type='MixedPrecisionOptimWrapper',
    optimizer=dict(
        type='AdamW', lr=1e-4 * 256 / 256, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0),
            cls_token=dict(decay_mult=0.0),
            log_step_size=dict(lr_mult=10.0, decay_mult=0.0),
        ),
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=90, begin=10, end=100, eta_min=0, convert_to_iter_based=True
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=256)
