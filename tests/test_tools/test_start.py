"""How the tools start: without what they do not need, and without lines that are not theirs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from converter_runs import save_image, write_cells

from mmdet_salience.utils.environment import import_quietly

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
CONFIG = TOOLS.parent / 'configs/salience_detr/salience-detr_r50_4xb2-10000i_custom.py'
CHECK = TOOLS / 'analysis_tools/check_dataset.py'
CONVERTERS = sorted((TOOLS / 'dataset_converters').glob('[a-z]*.py'))
LIGHT = [CHECK, *CONVERTERS]
RUN = """
import runpy, sys
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    print(*sorted({'torch', 'mmcv', 'mmdet'} & set(sys.modules)), file=sys.stderr)
"""


def run_python(code: str, *argv: object, status: int = 0) -> tuple[str, str]:
    """Standard output and error of a program in a process of its own."""
    command = [sys.executable, '-c', f'import sys; sys.argv[:] = sys.argv[1:]{code}']
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    words = [*command, *map(str, argv)]
    run = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert run.returncode == status, run.stderr
    return run.stdout, run.stderr


@pytest.mark.parametrize('tool', LIGHT, ids=[tool.stem for tool in LIGHT])
def test_converters_and_check_start_without_detectors(tool: Path) -> None:
    printed, imported = run_python(RUN, tool, '--help')
    assert printed.startswith('usage: ')
    assert imported == '\n'


def test_a_conversion_and_its_check_need_no_detectors(tmp_path: Path) -> None:
    root = write_cells(tmp_path / 'cells')
    converter = TOOLS / 'dataset_converters/voc2coco.py'
    printed, errors = run_python(RUN, converter, root)
    assert printed.splitlines()[0].split()[0] == 'split'
    assert errors.splitlines()[-1] == ''
    ann_file = root / 'annotations/train.json'
    printed, errors = run_python(RUN, CHECK, ann_file, '--image-dir', root)
    assert printed.startswith(str(ann_file))
    assert errors == '\n'


def test_a_config_is_checked_without_detectors(tmp_path: Path) -> None:
    root = write_cells(tmp_path / 'cells')
    run_python(RUN, TOOLS / 'dataset_converters/voc2coco.py', root)
    printed, errors = run_python(RUN, CHECK, CONFIG, '--data-root', root)
    assert printed.startswith(f'train: {root}/annotations/train.json')
    assert errors == '\n'


def test_a_dataset_type_of_mmdetection_is_looked_up(tmp_path: Path) -> None:
    save_image(tmp_path / 'a.png')
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 9, 9], area=81, iscrowd=0)
    content = dict(
        images=[dict(id=1, file_name='a.png', width=64, height=48)],
        annotations=[box],
        categories=[dict(id=1, name='pit')],
    )
    (tmp_path / 'train.json').write_text(json.dumps(content))
    config = tmp_path / 'config.py'
    config.write_text(
        "train_dataloader = dict(dataset=dict(type='DeepFashionDataset', ann_file='train.json', "
        f"data_root='{tmp_path}'))"
    )
    printed, errors = run_python(RUN, CHECK, config, status=1)
    assert 'different_classes' in printed  # DeepFashion's are others
    assert 'OneDL' not in printed + errors
    assert errors == 'mmcv mmdet torch\n'


def test_the_data_modules_lead_to_the_whole_package() -> None:
    code = """
sys.path.append(sys.argv[0])
import _data_package
import mmdet_salience.datasets.conversion.coco_writer
print('mmdet' in sys.modules)
from mmdet_salience import __path__, models
print('mmdet' in sys.modules, mmdet_salience.__version__ == mmdet_salience.version.__version__)
from mmdet.registry import MODELS, RUNNERS
print(MODELS.get('SalienceDETR') is models.SalienceDETR, RUNNERS.get('DataFittingRunner').__name__)
"""
    printed, _ = run_python(code, TOOLS)
    assert printed.splitlines() == ['False', 'True True', 'True DataFittingRunner']


def test_the_package_is_imported_without_a_line() -> None:
    assert (
        run_python(f'; sys.path.insert(0, {str(TOOLS.parent)!r}); import mmdet_salience')[0] == ''
    )


def test_only_the_noise_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    lines = "print('one')\nprint('some noise here')\nprint('two')\n"
    (tmp_path / 'chatty_module.py').write_text(lines)
    (tmp_path / 'broken_module.py').write_text(f'{lines}import no_such_module_at_all\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    import_quietly('chatty_module', 'some noise')
    assert capsys.readouterr().out == 'one\ntwo\n'
    with pytest.raises(ModuleNotFoundError, match='no_such_module_at_all'):
        import_quietly('broken_module', 'some noise')
    assert capsys.readouterr().out == 'one\ntwo\n'
