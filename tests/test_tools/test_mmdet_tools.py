"""MMDetection's analysis tools with a config fitted by ``fit_config.py``, each once."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import mmdet
import numpy as np
import pytest
from converter_runs import write_cells
from helpers import ROOT
from mmengine.config import Config
from test_own_data import CONFIG, SMALL, TOOLS, run

ANALYSIS = Path(mmdet.__file__).parent / '.mim/tools/analysis_tools'
TRIED = {
    'analyze_logs',
    'analyze_results',
    'browse_dataset',
    'coco_error_analysis',
    'confusion_matrix',
    'eval_metric',
    'get_flops',
}
NOT_TRIED = {
    'benchmark': 'needs psutil',
    'browse_grounding_dataset': 'is for grounding data',
    'browse_grounding_raw': 'is for grounding data',
    'coco_occluded_separated_recall': 'is for masks',
    'fuse_results': 'stops: it asks for names of models that it has no option for',
    'get_flops_grounding': 'is for grounding models',
    'optimize_anchors': "is for YOLO's anchors",
    'robustness_eval': 'reads what test_robustness writes',
    'test_robustness': 'needs imagecorruptions, and MMDetection run from its checkout',
}
CELLS = ('Platelets', 'RBC', 'WBC')

sys.path.append(str(TOOLS / 'misc'))
fit_config = importlib.import_module('fit_config')


class Site:
    """A folder with blood cells, a fitted config, a training of two steps and a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ann_file = folder / 'cells/annotations/val.json'
        run(folder, TOOLS / 'dataset_converters/voc2coco.py', str(write_cells(folder / 'cells')))
        content = json.loads(self.ann_file.read_text())
        for category in content['categories']:  # which coco_error_analysis asks for
            category['supercategory'] = 'cell'
        self.ann_file.write_text(json.dumps(content))
        self.data = ['--data-root', 'cells', '--cfg-options', *SMALL]
        self.fitted = run(folder, TOOLS / 'misc/fit_config.py', str(CONFIG), 'fit.py', *self.data)
        run(folder, TOOLS / 'train.py', str(CONFIG), '--work-dir', 'work', *self.data)
        results = ['--out', 'found.pkl', '--work-dir', 'test', *self.data]
        results.append('test_evaluator.outfile_prefix=found')
        self.tested = run(folder, TOOLS / 'test.py', str(CONFIG), 'work/iter_2.pth', *results)

    def analyze(self, name: str, *argv: str) -> str:
        """What one of MMDetection's tools prints; it must succeed."""
        environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', MPLBACKEND='Agg')
        command = [sys.executable, str(ANALYSIS / f'{name}.py'), *argv]
        options = dict(cwd=self.folder, env=environment, capture_output=True, text=True)
        done = subprocess.run(command, **options)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp('mmdet tools'))


@pytest.mark.slow
def test_fitted_config_is_the_one_that_a_training_writes(site: Site) -> None:
    assert f'classes, 3: {", ".join(CELLS)}' in site.fitted
    fitted = Config.fromfile(site.folder / 'fit.py').to_dict()
    dumped = Config.fromfile(site.folder / 'work' / CONFIG.name).to_dict()
    assert dumped.pop('work_dir') == 'work'
    assert dumped.pop('launcher') == 'none'
    assert fitted == dumped
    assert fitted['model']['bbox_head']['num_classes'] == 3
    dataset = fitted['train_dataloader']['dataset']
    assert dataset['metainfo']['classes'] == CELLS
    assert fitted['val_evaluator']['ann_file'] == 'cells/annotations/val.json'


@pytest.mark.slow
def test_browse_dataset_draws_the_objects(site: Site) -> None:
    site.analyze('browse_dataset', 'fit.py', '--output-dir', 'browsed', '--not-show')
    picture = cv2.imread(str(site.folder / 'browsed/BloodImage_0.jpg')).astype(int)
    assert np.ptp(picture, axis=2).max() > 60  # colours of boxes on a grey image


@pytest.mark.slow
def test_confusion_matrix_has_the_classes_of_the_data(site: Site) -> None:
    site.analyze('confusion_matrix', 'fit.py', 'found.pkl', 'confusions')
    picture = cv2.imread(str(site.folder / 'confusions/confusion_matrix.png'))
    assert picture.shape[1] == 180 * (len(CELLS) + 1) / 2  # half an inch each at 180 dpi


@pytest.mark.slow
def test_eval_metric_repeats_the_test(site: Site) -> None:
    printed = site.analyze('eval_metric', 'fit.py', 'found.pkl')
    (score,) = re.findall(r"'coco/bbox_mAP': ([\d.-]+)", printed)
    (tested,) = re.findall(r'coco/bbox_mAP: (\S+)', site.tested)
    assert float(score) == pytest.approx(float(tested), abs=1e-3)


@pytest.mark.slow
def test_get_flops_counts(site: Site) -> None:
    printed = site.analyze('get_flops', 'fit.py', '--num-images', '1')
    (flops,) = re.findall(r'Flops: ([\d.]+)G', printed)
    (params,) = re.findall(r'Params: ([\d.]+)M', printed)
    assert 0.1 < float(flops) < 10
    assert 20 < float(params) < 40  # ResNet-18's 11, encoder and decoder


@pytest.mark.slow
def test_analyze_results_draws_the_image(site: Site) -> None:
    site.analyze('analyze_results', 'fit.py', 'found.pkl', 'drawn', '--topk', '1')
    (drawn,) = (site.folder / 'drawn').glob('*/*.jpg')  # one image: the best, not the worst
    assert (drawn.parent.name, drawn.name.startswith('BloodImage_1')) == ('good', True)


@pytest.mark.slow
def test_analyze_logs_reads_the_log(site: Site) -> None:
    (log,) = site.folder.glob('work/*/vis_data/scalars.json')
    assert 'average iter time' in site.analyze('analyze_logs', 'cal_train_time', str(log))
    style = ('--style', 'ggplot')  # the tool's own is one of seaborn's
    options = ('--keys', 'loss', '--out', 'curve.png', *style)
    site.analyze('analyze_logs', 'plot_curve', str(log), *options)
    assert (site.folder / 'curve.png').is_file()


@pytest.mark.slow
def test_coco_error_analysis_of_the_predictions(site: Site) -> None:
    options = ('found.bbox.json', 'errors', '--ann', str(site.ann_file))
    site.analyze('coco_error_analysis', *options)
    names = {path.name for path in (site.folder / 'errors/bbox').glob('*.png')}
    assert {f'bbox-{name}-allarea.png' for name in CELLS} <= {
        re.sub(r'bbox-\d+-', 'bbox-', name) for name in names
    }


def test_every_tool_is_tried_or_known_not_to_fit() -> None:
    tools = {path.stem for path in ANALYSIS.glob('*.py')}
    assert tools >= TRIED
    assert tools <= TRIED | set(NOT_TRIED)
    page = (ROOT / 'docs/mmdetection_tools.md').read_text()
    assert [name for name in sorted(TRIED | set(NOT_TRIED)) if f'`{name}.py' not in page] == []


@pytest.mark.parametrize(
    'argv, message',
    [
        (['out.json'], 'let it end in .py'),
        (['there.py'], 'not overwritten'),
        (['out.py', '--data-root', 'nowhere'], 'there is no annotation file nowhere/annotations'),
        (['out.py', '--cfg-options', 'model=None'], 'has no model'),
    ],
)
def test_refusals_write_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    argv: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'there.py').write_text('mine = 1')
    with pytest.raises(SystemExit) as stop:
        fit_config.main([str(CONFIG), *argv])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ['mine = 1']
