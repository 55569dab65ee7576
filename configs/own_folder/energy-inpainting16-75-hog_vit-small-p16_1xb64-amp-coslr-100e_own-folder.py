"""Your own images, for features: an energy of masked patches and edges, given the others. One GPU.

DATA_ROOT=/path/to/images python tools/train.py \
    configs/own_folder/energy-inpainting16-75-hog_vit-small-p16_1xb64-amp-coslr-100e_own-folder.py

No row of the paper: the recipe of configs/recipe. Trains on all images below the folder, unlabelled. The
first 16 of them also serve for validation, so these metrics are not held out; to use another folder,
set val_dataloader.dataset.data_root.
"""

_base_ = '../recipe/energy-inpainting16-75-hog_vit-small-p16_8xb512-amp-coslr-100e_in1k.py'

train_dataloader = dict(
    batch_size=64, dataset=dict(data_root='{{$DATA_ROOT:data/images}}', data_prefix='')
)
val_dataloader = dict(
    dataset=dict(data_root='{{$DATA_ROOT:data/images}}', data_prefix='', indices=16)
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 64 / 256))
auto_scale_lr = dict(base_batch_size=64)
