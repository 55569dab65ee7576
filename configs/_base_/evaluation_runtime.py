# Shared by classification runs. The last epoch counts, not the best: there is no third split to choose
# on.
_base_ = './default_runtime.py'

default_hooks = dict(checkpoint=dict(save_best=None, rule=None))
custom_hooks = [
    dict(type='ReproducibleEpochsHook'),
    dict(type='UnreadableImagesHook'),
    dict(type='FiniteLossHook'),
]
