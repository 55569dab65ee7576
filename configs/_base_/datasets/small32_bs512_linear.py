# Labelled images of 32² for a linear probe: crops and flips only.
_base_ = './small32_bs128_finetune.py'

train_dataloader = dict(batch_size=512)
val_dataloader = dict(batch_size=512)
test_dataloader = val_dataloader
