"""Models by name, from a checkout and from what a wheel holds."""

from pathlib import Path

import pytest
from helpers import ROOT

from mmdet_salience.apis import find_model, list_models
from mmdet_salience.apis.model_zoo import read_models


def test_the_five_models_of_the_release() -> None:
    assert set(list_models()) == {
        'salience-detr_r50_8xb2-12e_coco',
        'salience-detr_r50_8xb2-24e_coco',
        'salience-detr_convnext-l_8xb2-12e_coco',
        'salience-detr_swin-l_8xb2-12e_coco',
        'salience-detr_focalnet-l_8xb2-12e_coco',
    }


@pytest.mark.parametrize(
    'name', ['salience-detr_r50_8xb2-24e_coco', 'Salience-DETR_r50_8xb2-24e_coco.py']
)
def test_name_leads_to_config_and_weights(name: str) -> None:
    model = find_model(name)
    assert model.config == ROOT / 'configs' / 'salience_detr' / 'salience-detr_r50_8xb2-24e_coco.py'
    assert model.config.is_file()
    assert model.weights.endswith('/v1.0.0/salience_detr_resnet50_800_1333_coco_2x.pth')


def test_unknown_name_lists_all() -> None:
    with pytest.raises(ValueError, match=r'no published model dino; .*swin-l.*by its path'):
        find_model('dino')


def test_paths_start_from_the_index(tmp_path: Path) -> None:
    (tmp_path / 'model-index.yml').write_text('Import: [configs/metafile.yml]\n')
    (tmp_path / 'configs').mkdir()
    entry = '{Name: a, Config: configs/a.py, Weights: https://example.com/a.pth}'
    (tmp_path / 'configs' / 'metafile.yml').write_text(f'Models: [{entry}]\n')
    expected = ('a', tmp_path / 'configs' / 'a.py', 'https://example.com/a.pth')
    assert read_models(tmp_path) == {'a': expected}
