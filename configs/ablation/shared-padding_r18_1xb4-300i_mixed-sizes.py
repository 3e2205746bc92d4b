# Padded training batches as the release computes them: budgets and padding shared by the batch.
_base_ = '../salience_detr/salience-detr_r18_1xb4-300i_mixed-sizes.py'

model = dict(independent_training=False)
