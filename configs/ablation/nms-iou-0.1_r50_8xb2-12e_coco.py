# Redundancy removal at IoU 0.1: diagonal neighbours suppress each other too.
_base_ = '../salience_detr/salience-detr_r50_8xb2-12e_coco.py'

model = dict(
    query_selection=dict(iou_threshold=0.1),
)
