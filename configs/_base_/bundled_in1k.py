# What a config inherited from MMPretrain needs: our dataset without labels, and our hooks. Such a config
# also deletes MMPretrain's collate_fn, because everything inherited from `mmpretrain::` carries a
# _scope_, which that function does not accept.
custom_imports = dict(imports=['mmebm'], allow_failed_imports=False)
custom_hooks = [
    dict(type='ReproducibleEpochsHook'),
    dict(type='UnreadableImagesHook'),
    dict(type='FiniteLossHook'),
]
imagenet = dict(type='ImageFolder', data_root='data/imagenet/', data_prefix='train')
