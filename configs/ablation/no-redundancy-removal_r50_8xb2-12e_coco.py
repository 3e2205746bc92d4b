# The best tokens become queries, neighbours included.
_base_ = '../salience_detr/salience-detr_r50_8xb2-12e_coco.py'

model = dict(
    query_selection=dict(_delete_=True, type='TopQuerySelection'),
)
