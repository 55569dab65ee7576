# For runs on top of a pretrained backbone: PRETRAINED=FILE names its checkpoint.
_base_ = './evaluation_runtime.py'

default_hooks = dict(
    pretrained_backbone=dict(type='PretrainedBackboneHook', checkpoint='{{$PRETRAINED:none}}')
)
