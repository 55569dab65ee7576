"""Your own labelled images, DATA_ROOT/{train,test}/CLASS/IMAGE: finetuning a pretrained ViT-S. One GPU.

DATA_ROOT=/path/to/images PRETRAINED=FILE python tools/train.py configs/own_folder/finetune_vit-small-p16_1xb64-amp-coslr-100e_own-folder.py --work-dir work_dirs/ROW/finetuning

NUM_CLASSES=... if there are not ten. `mmebm pretrain --backbone` takes this file for the same ViT.

Paper: no row; the finetuning of Table A. Not yet measured here.
"""

_base_ = ['../evaluation/finetune_vit-small-p16_8xb128-amp-coslr-100e_in1k.py']

data_root = '{{$DATA_ROOT:data/images}}'
images = dict(_delete_=True, type='ImageFolder', data_root=data_root, with_label=True)

train_dataloader = dict(
    batch_size=64,
    dataset=dict(images, data_prefix='train', pipeline=_base_.train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    dataset=dict(images, data_prefix='test', test_mode=True, pipeline=_base_.test_pipeline),
)
test_dataloader = val_dataloader
model = dict(
    head=dict(num_classes={{'$NUM_CLASSES:10'}}),
    data_preprocessor=dict(num_classes={{'$NUM_CLASSES:10'}}),
)
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=1e-3 * 64 / 256))
auto_scale_lr = dict(base_batch_size=64)
