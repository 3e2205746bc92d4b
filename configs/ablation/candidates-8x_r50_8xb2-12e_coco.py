# Eight times as many candidates as queries take part in redundancy removal.
_base_ = '../salience_detr/salience-detr_r50_8xb2-12e_coco.py'

model = dict(
    query_selection=dict(candidate_factor=8),
)
