# A Swin for 32² images, patches of 2², three stages of 16², 8² and 4² tokens (2.6 M parameters), and
# its energy. The network is that of simmim_swin-micro.
_base_ = './energy_swin-tiny.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=64, depths=[2, 4, 2], num_heads=[2, 4, 8]),
        img_size=32,
        patch_size=2,
        window_size=4,
        out_indices=(2,),
    ),
    head=dict(in_channels=256),
    compile_step=False,  # compiling would take longer than it saves
)
