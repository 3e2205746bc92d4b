# Redundancy removal at IoU 0.5: neighbours stay (their IoU is 1/3).
_base_ = '../salience_detr/salience-detr_r50_8xb2-12e_coco.py'

model = dict(
    query_selection=dict(iou_threshold=0.5),
)
