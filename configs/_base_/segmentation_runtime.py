# pretrained_runtime.py for MMSegmentation, which counts iterations: PRETRAINED=FILE names the
# pretrained checkpoint.
_base_ = './pretrained_runtime.py'

default_scope = 'mmseg'
custom_imports = dict(imports=['mmebm', 'mmseg'], allow_failed_imports=False)

default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=16000),
    visualization=dict(type='SegVisualizationHook'),  # draw=True draws, see docs/segmentation.md
    pretrained_backbone=dict(type='mmpretrain.PretrainedBackboneHook'),
)
custom_hooks = [dict(type='mmpretrain.FiniteLossHook')]
visualizer = dict(type='SegLocalVisualizer')
log_processor = dict(by_epoch=False)
sync_bn = 'torch'  # batch norm over all GPUs: two images per GPU are too few
