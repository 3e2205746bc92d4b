# The best tokens become queries, neighbours included.
_base_ = '../salience_detr/salience-detr_r18_1xb8-750i_synthetic.py'

model = dict(
    query_selection=dict(_delete_=True, type='TopQuerySelection'),
)
