# default_runtime.py without the pictures of restoration chains, which need an energy.
_base_ = './default_runtime.py'

custom_hooks = [
    dict(type='ReproducibleEpochsHook'),
    dict(type='UnreadableImagesHook'),
    dict(type='FiniteLossHook'),
]
