# For MMPretrain's own methods: they have no validation.
_base_ = './baseline_runtime.py'

default_hooks = dict(checkpoint=dict(save_best=None))
