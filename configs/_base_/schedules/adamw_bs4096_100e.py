# The recipe's schedule: that of adamw_bs256_100e.py with MAE's batch size and learning rate.
_base_ = './adamw_bs256_100e.py'

optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 4096 / 256))
auto_scale_lr = dict(base_batch_size=4096)
