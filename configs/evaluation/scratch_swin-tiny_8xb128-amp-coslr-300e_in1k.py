"""A Swin-T from scratch on ImageNet for 300 epochs: the finetuning recipe without a checkpoint.

bash tools/dist_train.sh configs/evaluation/scratch_swin-tiny_8xb128-amp-coslr-300e_in1k.py 8

Ours, as for the ViTs: all of Table A, the layer-wise decay included. Without it:
--cfg-options optim_wrapper.paramwise_cfg.layer_decay_rate=1.0
The paper's number is the one published with the network, whose own recipe is MMPretrain's
swin_transformer/swin-tiny_16xb64_in1k.py.

Paper: Table 6, column "FS 300E", Swin-T.
Expect 81.3 % top-1 (published, Table 6). Not yet measured here.
"""

_base_ = [
    '../_base_/models/classifier_swin-tiny.py',
    '../_base_/datasets/imagenet_bs128_finetune.py',
    '../_base_/schedules/adamw_bs1024_300e_finetune.py',
    '../_base_/evaluation_runtime.py',
]
# No weight decay on the relative position bias tables.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)))
)
