# Table A, finetuning column, 100 epochs.
# Ours (the paper does not say), as in MAE, which Table A follows otherwise: the "base" learning rate is
# scaled by batch / 256, with 5 epochs of warm-up, and no weight decay on norms, biases and tokens.
optim_wrapper = dict(
    type='MixedPrecisionOptimWrapper',
    constructor='LearningRateDecayOptimWrapperConstructor',
    optimizer=dict(
        type='AdamW', lr=1e-3 * 1024 / 256, betas=(0.9, 0.999), weight_decay=0.05, fused=True
    ),
    paramwise_cfg=dict(
        layer_decay_rate=0.75,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,  # BEiT's layer scales, and biases with other names
        custom_keys=dict(pos_embed=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0)),
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=95,
        begin=5,
        end=100,
        eta_min=1e-6,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=1024)
