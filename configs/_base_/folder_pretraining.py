# What `mmebm pretrain` fills in: an energy on images of a folder, in rounds of a fixed length.
_base_ = [
    'models/energy_vit-small-p16.py',
    'datasets/imagenet_bs32.py',
    'schedules/adamw_bs256_100e.py',
    'default_runtime.py',
]

train_dataloader = dict(
    worker_init_fn=dict(type='own_process_group'),
    sampler=dict(_delete_=True, type='RoundSampler', round_size=32),
)
val_dataloader = dict(worker_init_fn=dict(type='own_process_group'))
# processes exchange results by the network, and not by files that all machines see
val_evaluator = [
    dict(type='RestorationMetric', collect_device='gpu'),
    dict(type='EnergyMetric', collect_device='gpu'),
]
optim_wrapper = dict(clip_grad=dict(max_norm=0.3))  # of all gradients together; ours
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=5, by_epoch=False),
    dict(type='CosineAnnealingLR', T_max=95, begin=5, end=100, eta_min=0, by_epoch=False),
]
default_hooks = dict(
    checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1, max_keep_ckpts=2)
)
custom_hooks = [
    dict(type='ReproducibleEpochsHook'),
    dict(type='UnreadableImagesHook', max_share=0.5),  # of the images; it goes on without them
    dict(type='FiniteLossHook'),
    dict(type='GracefulStopHook'),
    dict(type='ReportHook'),
]
