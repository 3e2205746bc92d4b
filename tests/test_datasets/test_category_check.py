"""Whether configs and files agree about classes, and which files a config reads."""

from typing import Any

import pytest
from coco_samples import make_coco
from mmengine.config import ConfigDict

from mmdet_salience.datasets.checks.annotation_source import find_annotation_source
from mmdet_salience.datasets.checks.annotation_table import AnnotationTable, build_annotation_table
from mmdet_salience.datasets.checks.dataset_check import check_classes, check_pair


def _table(content: dict[str, Any]) -> AnnotationTable:
    """Columns of a content."""
    return build_annotation_table(content, 'a.json')


def test_classes_in_the_order_of_the_file() -> None:
    content = make_coco()
    content['categories'].append(dict(id=7, name='stain'))
    table = _table(content)
    assert check_classes(table, ('crack', 'pore', 'stain')) == ()
    assert check_classes(table, ('crack', 'stain')) == (), 'a part of them is fine'
    (order,) = check_classes(table, ('stain', 'crack', 'pore'))
    assert order.is_error and order.kind == 'different_classes'
    assert order.examples == (
        'the config: stain, crack, pore',
        'the file: crack, pore, stain',
        'first difference: class 0 is stain in the config, crack in the file',
    )
    (lacking,) = check_classes(table, ('crack', 'hole', 'pore'))
    assert 'only in the config: hole' in lacking.examples
    assert 'the file lacks' in lacking.remedy
    (foreign,) = check_classes(table, ('person', 'car'))
    assert "metainfo=dict(classes=('crack', 'pore', 'stain'))" in foreign.remedy


def test_pair_in_another_order_is_an_error() -> None:
    train, val = make_coco(), make_coco(start=10)
    assert check_pair(_table(train), _table(val)) == ()
    val['categories'].reverse()
    (finding,) = check_pair(_table(train), _table(val), names=('train', 'test'))
    assert finding.is_error and finding.kind == 'different_categories'
    assert finding.examples == (
        'train: crack, pore',
        'test: pore, crack',
        'first difference: class 0 is crack in train, pore in test',
    )


def test_pair_with_further_categories() -> None:
    train, val = make_coco(), make_coco(start=10)
    val['categories'].append(dict(id=3, name='stain'))
    (finding,) = check_pair(_table(train), _table(val))
    assert finding.examples[-1] == 'only in val: stain'
    assert check_pair(_table(train), _table(val), classes=('crack', 'pore')) == ()
    val['categories'][2]['name'] = 'pore'
    (finding,) = check_pair(_table(train), _table(val))
    assert finding.examples[-1] == 'first difference: class 2 is none in train, pore in val'


def test_pair_that_shares_images() -> None:
    train, val = make_coco(4), make_coco(4, start=3)
    val['images'][0]['file_name'] = './3.png'
    (finding,) = check_pair(_table(train), _table(val))
    assert not finding.is_error and finding.kind == 'shared_image'
    assert finding.count == 2 and finding.examples == ('3.png', '4.png')
    tables = _table(train), _table(val)
    assert check_pair(*tables, image_roots=('data/train', 'data/val')) == ()
    (finding,) = check_pair(*tables, image_roots=('data', './data/'))
    assert finding.examples == ('data/3.png', 'data/4.png')


def test_sources_of_configs() -> None:
    """Paths as BaseDataset resolves them; other formats are none of ours."""
    dataset = ConfigDict(
        type='CocoDataset', data_root='data/x', ann_file='a.json', data_prefix=dict(img='images/')
    )
    source = find_annotation_source(dataset, 'train')
    assert source[:4] == ('train', 'data/x/a.json', 'data/x/images/', None)
    dataset.update(metainfo=dict(classes=['a', 'b']), ann_file='/else/a.json', test_mode=True)
    source = find_annotation_source(dataset, 'val')
    assert (source.ann_file, source.classes) == ('/else/a.json', ('a', 'b'))
    assert source.is_evaluated
    dataset.data_root = 's3://bucket'
    assert find_annotation_source(dataset, 'val').image_root is None
    dataset.pop('ann_file')
    with pytest.raises(ValueError, match='val dataset has no ann_file'):
        find_annotation_source(dataset, 'val')
    for other in ('VOCDataset', 'LVISV1Dataset', 'CocoPanopticDataset', 'Objects365V1Dataset'):
        assert find_annotation_source(ConfigDict(type=other, ann_file='a.json'), 'x') is None
    assert find_annotation_source(ConfigDict(type='DeepFashionDataset', ann_file='a'), 'x').classes
