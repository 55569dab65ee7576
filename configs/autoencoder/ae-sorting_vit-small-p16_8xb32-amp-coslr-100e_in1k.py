"""An auto-encoder that predicts the position of each patch.

bash tools/dist_train.sh configs/autoencoder/ae-sorting_vit-small-p16_8xb32-amp-coslr-100e_in1k.py 8

Paper: Table 2, row "AE + sorting"; ViT-S, 100 epochs.
Expect, after finetuning for 100 epochs: 77.2 % top-1 (paper). Not yet measured here.
The checkpoint holds a position embedding of zeros, from which finetuning starts (section 3.1).
"""

_base_ = [
    '../_base_/models/ae-sorting_vit-small-p16.py',
    '../_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/adamw_bs256_100e.py',
    '../_base_/baseline_runtime.py',
]
train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_augmentation, _base_.pack]))
val_dataloader = dict(dataset=dict(pipeline=[*_base_.val_preparation, _base_.pack]))
test_dataloader = val_dataloader
val_evaluator = [dict(type='SortingMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='sorting/accuracy'))
