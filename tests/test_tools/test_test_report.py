"""tools/test.py --report: detections that are known beforehand, then real detectors."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from coco_samples import BOXES, make_coco, write_coco
from helpers import tiny_model_cfg
from mmdet.registry import METRICS, MODELS
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import InstanceData

from mmdet_salience.datasets.checks.annotation_table import build_annotation_table
from mmdet_salience.evaluation.coco_objects import objects_by_image, reads_coco

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'test.py'


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('tools_test_report', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


test_tool = load_tool()
CRACK, PORE = ([x, y, x + w, y + h] for x, y, w, h in BOXES)


@MODELS.register_module()
class PlayedBackDetector(BaseModel):
    """Finds what it is told to: rows of (x1, y1, x2, y2, label, score) by image id."""

    def __init__(self, rows, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.rows = rows

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """Write the detections into the samples."""
        for sample in data_samples:
            rows = torch.tensor(self.rows.get(str(sample.img_id), [])).reshape(-1, 6)
            boxes = rows[:, :4].clone()
            if sample.get('flip'):
                boxes[:, [0, 2]] = sample.img_shape[1] - boxes[:, [2, 0]]
            sample.pred_instances = InstanceData(
                bboxes=boxes, labels=rows[:, 4].long(), scores=rows[:, 5]
            )
        return data_samples


def write_config(root: Path, model: dict, content: dict, **settings) -> tuple[str, str]:
    """Write data, config and checkpoint; return the paths of the last two."""
    write_coco(root, content, 'test.json')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(64, 64), keep_ratio=True),
        dict(
            type='PackDetInputs',
            meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
        ),
    ]
    dataset = dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file='test.json',
        data_prefix=dict(img=''),
        test_mode=True,
        pipeline=pipeline,
    )
    loader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dataset | settings.pop('dataset', {}),
    )
    cfg = dict(
        default_scope='mmdet',
        custom_imports=dict(imports=['mmdet_salience'], allow_failed_imports=False),
        model=model,
        test_dataloader=loader,
        test_evaluator=dict(type='CocoMetric', metric='bbox'),
        test_cfg=dict(type='TestLoop'),
    )
    path = root / 'config.py'
    Config(cfg | settings).dump(str(path))
    checkpoint = root / 'weights.pth'
    state = {} if model['type'] == 'PlayedBackDetector' else MODELS.build(model).state_dict()
    torch.save(dict(state_dict=state, meta={}), checkpoint)
    return str(path), str(checkpoint)


def run(root: Path, model: dict, content: dict, *flags: str, **settings) -> tuple[dict, dict, str]:
    """Test with a report; return its figures, the logged metrics and the page."""
    argv = write_config(root, model, content, **settings)
    folder = root / 'new' / 'report'
    test_tool.main([*argv, '--work-dir', str(root / 'work'), '--report', str(folder), *flags])
    assert sorted(path.name for path in folder.iterdir()) == ['index.html', 'report.json']
    logs = [json.loads(path.read_text()) for path in (root / 'work').glob('*/*.json')]
    figures = json.loads((folder / 'report.json').read_text())
    return figures, logs[-1] if logs else {}, (folder / 'index.html').read_text()


def played(rows: dict) -> dict:
    return dict(type='PlayedBackDetector', rows=rows)


def test_figures_are_those_of_the_log(tmp_path: Path) -> None:
    rows = {
        '1': [[*CRACK, 0, 0.9], [*PORE, 0, 0.8]],
        '2': [[*CRACK, 0, 0.7], [4, 6, 24, 12, 0, 0.6], [31, 21, 60, 45, 1, 0.9]],
        '3': [[*PORE, 1, 0.5], [0, 0, 3, 3, 1, 0.65]],
    }
    figures, log, page = run(tmp_path, played(rows), make_coco(4))
    assert 0.2 < figures['overall']['ap'] < 0.8
    names = dict(mAP='ap', mAP_50='ap50', mAP_75='ap75', mAP_s='ap_small')
    for logged, name in names.items():
        assert figures['overall'][name] == pytest.approx(log[f'coco/bbox_{logged}'], abs=5.1e-4)
    assert figures['overall']['ap_large'] is None
    assert figures['counts'] == dict(images=4, objects=8, crowds=0, detections=7)
    assert [c['name'] for c in figures['classes']] == ['crack', 'pore']
    worst = {image['name']: (image['missed'], image['false']) for image in figures['worst_images']}
    assert worst['4.png'] == (2, 0)
    assert page.count('data:image/jpeg;base64,') == len(worst)
    assert str(tmp_path) not in page + json.dumps(figures)


def test_images_without_objects_and_crowds(tmp_path: Path) -> None:
    content = make_coco(3)
    content['annotations'] = content['annotations'][:4]
    content['annotations'][3]['iscrowd'] = 1  # the pore of image 2
    rows = {'1': [[*CRACK, 0, 0.9]], '2': [[*PORE, 1, 0.8]], '3': [[*PORE, 1, 0.3]]}
    figures, log, _ = run(tmp_path, played(rows), content)
    assert figures['counts'] == dict(images=3, objects=3, crowds=1, detections=3)
    assert figures['overall']['ap'] == pytest.approx(log['coco/bbox_mAP'], abs=5.1e-4)
    counts = {error['error']: error['counts'][0] for error in figures['errors']}
    assert (counts['background'], counts['missed'], counts['all_false']) == (1, 2, 1)


def test_no_detections_at_all(tmp_path: Path) -> None:
    figures, _, page = run(tmp_path, played({}), make_coco(2))
    assert figures['overall']['ap'] == 0
    assert figures['settings']['best_threshold'] is None
    assert [image['missed'] for image in figures['worst_images']] == [2, 2]
    assert '2 of 2 objects missed' in page


def test_part_of_the_classes_and_of_the_images(tmp_path: Path) -> None:
    rows = {'1': [[*PORE, 0, 0.9]], '2': [[*PORE, 0, 0.9]]}
    dataset = dict(metainfo=dict(classes=('pore',)), indices=2)
    figures, _, page = run(tmp_path, played(rows), make_coco(3), dataset=dataset)
    assert [c['name'] for c in figures['classes']] == ['pore']
    assert figures['counts']['objects'] == 2
    assert figures['overall']['ap'] == pytest.approx(1)
    assert 'Images of the annotation file that were not tested: 1' in page


def test_test_time_augmentation(tmp_path: Path) -> None:
    rows = {'1': [[*CRACK, 0, 0.9]], '2': [[*PORE, 1, 0.8]]}
    figures, log, page = run(tmp_path, played(rows), make_coco(2), '--tta')
    assert figures['counts']['detections'] == 2  # each found twice and merged
    assert figures['overall']['ap'] == pytest.approx(0.5 * 51 / 101 * 2, abs=1e-6)
    assert figures['overall']['ap'] == pytest.approx(log['coco/bbox_mAP'], abs=5.1e-4)
    assert 'test-time augmentation' in page


def test_older_report_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    folder = tmp_path / 'report'
    folder.mkdir()
    for name in ('index.html', 'report.json', 'notes.txt'):
        (folder / name).write_text('older')
    argv = write_config(tmp_path, played({}), make_coco(1))
    test_tool.main([*argv, '--work-dir', str(tmp_path / 'work'), '--report', str(folder)])
    assert (folder / 'notes.txt').read_text() == 'older'
    assert len(list(folder.iterdir())) == 3
    assert json.loads((folder / 'report.json').read_text())['counts']['images'] == 1
    assert 'older' not in (folder / 'index.html').read_text()


def test_what_cannot_be_reported_is_said_before_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config, checkpoint = write_config(tmp_path, played({}), make_coco(1))
    (tmp_path / 'file').write_text('')
    argv = [config, checkpoint, '--work-dir', str(tmp_path / 'work'), '--report']
    with pytest.raises(SystemExit) as stop:
        test_tool.main([*argv, str(tmp_path / 'file' / 'report')])
    assert stop.value.code == 2
    assert 'the report cannot be written to' in capsys.readouterr().err
    concat = dict(type='ConcatDataset', datasets=[Config.fromfile(config).test_dataloader.dataset])
    concat['datasets'] *= 2
    options = dict(test_dataloader=dict(dataset=dict(concat, _delete_=True)))
    options['test_evaluator'] = dict(ann_file=str(tmp_path / 'test.json'))
    double = tmp_path / 'double.py'
    double.write_text(f'_base_ = {str(config)!r}\n')
    with double.open('a') as file:
        for key, value in options.items():
            file.write(f'{key} = {value!r}\n')
    with pytest.raises(SystemExit):
        test_tool.main([str(double), checkpoint, '--report', str(tmp_path / 'report')])
    assert '--report needs one test dataset' in capsys.readouterr().err


def test_metric_of_a_config(tmp_path: Path) -> None:
    folder = tmp_path / 'own'
    ann_file = str(tmp_path / 'test.json')
    report = dict(type='EvaluationReport', folder=str(folder), ann_file=ann_file, num_pictures=1)
    evaluator = [dict(type='CocoMetric', metric='bbox'), report]
    argv = write_config(tmp_path, played({}), make_coco(3), test_evaluator=evaluator)
    test_tool.main([*argv, '--work-dir', str(tmp_path / 'work')])
    assert len(json.loads((folder / 'report.json').read_text())['worst_images']) == 1


def test_images_without_path_are_looked_for_in_the_image_folder(tmp_path: Path) -> None:
    content = make_coco(1)
    path = write_coco(tmp_path, content, 'test.json')
    metric = METRICS.build(
        dict(
            type='EvaluationReport',
            folder=str(tmp_path / 'report'),
            ann_file=str(path),
            image_root=str(tmp_path),
        )
    )
    found = dict(bboxes=torch.zeros(0, 4), labels=torch.zeros(0), scores=torch.zeros(0))
    metric.process(None, [dict(img_id=1, pred_instances=found)])
    metric.evaluate(1)
    assert 'data:image/jpeg' in (tmp_path / 'report' / 'index.html').read_text()
    metric.process(None, [dict(img_id=99, pred_instances=found)])
    with pytest.raises(ValueError, match=r'test\.json has no image with the id 99'):
        metric.evaluate(1)


def test_objects_of_a_file_as_pycocotools_sees_them() -> None:
    content = make_coco(2)
    content['categories'].reverse()  # classes count in the order of the file
    del content['annotations'][0]['area']
    content['annotations'][1]['image_id'] = 77  # no such image
    content['annotations'][2]['iscrowd'] = 1
    objects = objects_by_image(build_annotation_table(content, 'a.json'), ['crack', 'pore'])
    assert list(objects) == [1, 2]
    first, second = objects.values()
    assert (first.name, first.bboxes.tolist(), first.labels.tolist()) == ('1.png', [CRACK], [1])
    assert first.areas.tolist() == [200]
    assert (second.crowd.tolist(), second.labels.tolist()) == ([True, False], [1, 0])
    only = objects_by_image(build_annotation_table(content, 'a.json'), ['crack'])
    assert [len(image.labels) for image in only.values()] == [1, 1]
    with pytest.raises(ValueError, match=r'a\.json has no category dent'):
        objects_by_image(build_annotation_table(content, 'a.json'), ['dent'])


def test_datasets_that_number_classes_in_another_way_are_known() -> None:
    assert reads_coco('CocoDataset')
    assert reads_coco('CityscapesDataset')
    assert not reads_coco('LVISV1Dataset')
    assert not reads_coco('Objects365V1Dataset')
    assert not reads_coco('VOCDataset')


def test_salience_detr(tmp_path: Path) -> None:
    figures, log, _ = run(tmp_path, tiny_model_cfg(num_classes=2), make_coco(2))
    assert figures['counts']['detections'] > 0
    assert figures['overall']['ap'] == pytest.approx(log['coco/bbox_mAP'], abs=5.1e-4)


@pytest.mark.slow
def test_two_processes_write_one_report(tmp_path: Path) -> None:
    """With three images, one of the two processes tests an image a second time."""
    config, checkpoint = write_config(tmp_path, tiny_model_cfg(num_classes=2), make_coco(3))
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    launch += ['--nproc_per_node=2', str(TOOL), config, checkpoint, '--launcher', 'pytorch']
    launch += ['--work-dir', str(tmp_path / 'work'), '--report', str(tmp_path / 'report')]
    done = subprocess.run(launch, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / 'report' / 'report.json').read_text())
    assert figures['counts']['images'] == 3
    assert np.isfinite(figures['overall']['ap'])
