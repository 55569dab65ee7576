# default_runtime.py without the picture of restoration chains, which only the energy has.
_base_ = './default_runtime.py'

custom_hooks = [
    dict(type='ReproducibleEpochsHook'),
    dict(type='UnreadableImagesHook'),
    dict(type='FiniteLossHook'),
]
