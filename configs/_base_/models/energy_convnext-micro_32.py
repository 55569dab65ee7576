# A ConvNeXt for 32² images, patches of 2², four stages of 16² to 2² positions (2.7 M parameters), and
# its energy.
_base_ = './energy_convnext-tiny.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, depths=[2, 2, 6, 2], channels=[36, 72, 144, 288]),
        stem_patch_size=2,
    ),
    head=dict(in_channels=288),
    compile_step=False,  # compiling would take longer than it saves
)
