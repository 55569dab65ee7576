"""Your own images: unlabelled, in nested folders, of any format. One GPU.

DATA_ROOT=/path/to/images python tools/train.py configs/own_folder/energy-mixed_vit-small-p16_1xb64-amp-coslr-100e_own-folder.py

No row of the paper: its mixed corruptions with a ViT-S. Trains on all images below the folder.
The first 16 of them also serve for validation, so these metrics are not held out; to use another folder,
set val_dataloader.dataset.data_root.
"""

_base_ = [
    '../_base_/models/energy_vit-small-p16.py',
    '../_base_/datasets/imagenet_bs32_mixed.py',
    '../_base_/schedules/adamw_bs256_100e.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(
    batch_size=64, dataset=dict(data_root='{{$DATA_ROOT:data/images}}', data_prefix='')
)
val_dataloader = dict(
    dataset=dict(data_root='{{$DATA_ROOT:data/images}}', data_prefix='', indices=16)
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-4 * 64 / 256))
auto_scale_lr = dict(base_batch_size=64)
