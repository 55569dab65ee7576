# What `mmebm pretrain` fills in: an energy on images of a folder, in rounds of a fixed length.
_base_ = [
    'models/energy_vit-small-p16.py',
    'datasets/imagenet_bs32.py',
    'schedules/adamw_bs256_100e.py',
    'default_runtime.py',
]

loader = dict(worker_init_fn=dict(type='own_process_group'))
train_dataloader = dict(**loader, sampler=dict(_delete_=True, type='RoundSampler', round_size=32))
val_dataloader = dict(**loader)
# processes exchange results by the network, and not by files that all machines see
val_evaluator = [
    dict(type='RestorationMetric', collect_device='gpu'),
    dict(type='EnergyMetric', collect_device='gpu'),
]
optim_wrapper = dict(clip_grad=dict(max_norm=0.3))  # of all gradients together; ours
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
