"""Tables, files and the picture of a comparison with made-up numbers."""

import csv
import json
from pathlib import Path

import cv2
import pytest

from mmdet_salience.analysis.accuracy import Accuracy
from mmdet_salience.analysis.checkpoints import assign_checkpoints, name_configs
from mmdet_salience.analysis.comparison import (
    Comparison,
    DetectorResult,
    as_csv,
    as_json,
    as_markdown,
    as_text,
    giga,
)
from mmdet_salience.analysis.costs import Costs, Size
from mmdet_salience.analysis.flops import PARTS, ForwardWork
from mmdet_salience.analysis.latency import Latency
from mmdet_salience.analysis.plots import draw_comparison, short_name


def result(name: str, scale: int, accuracy: Accuracy | None = None) -> DetectorResult:
    """A detector whose part i does i * scale G multiply-adds."""
    by_part = {part: i * scale * 10**9 for i, part in enumerate(PARTS)}
    work = ForwardWork(by_part, 10**9, (40 * scale, 20 * scale) if scale < 3 else ())
    size = Size(50_000_000, 40_000_000, (800, 1344), work)
    costs = Costs(size, Latency(100.0 * scale, 90.0, 110.0), 12.0 if scale == 1 else None)
    return DetectorResult(name, f'{name}.py', 'a.pth' if accuracy else None, costs, accuracy)


FIRST = result('first', 1, Accuracy(0.5, 0.7, 0.3, None, 0.6))
COMPARISON = Comparison((FIRST, result('second', 2)), dict(command='compare.py a b', device='CPU'))


def test_csv_has_a_line_a_detector() -> None:
    """Numbers are unrounded and unknown ones are empty."""
    first, second = csv.DictReader(as_csv(COMPARISON).splitlines())
    assert (first['name'], second['name']) == ('first', 'second')
    assert (float(first['latency_ratio']), float(second['latency_ratio'])) == (1.0, 2.0)
    assert int(first['multiply_adds']) == sum(range(len(PARTS))) * 10**9
    parts = [int(second[f'multiply_adds_{part}']) for part in PARTS]
    assert sum(parts) == int(second['multiply_adds'])
    assert second['layer_tokens'] == '80 40'
    assert (first['ap'], first['ap_medium'], second['ap']) == ('0.5', '', '')
    assert (first['memory_mib'], second['memory_mib']) == ('12.0', '')


def test_json_holds_settings_and_models() -> None:
    """Unknown values are null."""
    content = json.loads(as_json(COMPARISON))
    assert content['settings']['command'] == 'compare.py a b'
    assert [model['ap'] for model in content['models']] == [0.5, None]


def test_text_and_markdown_show_the_same_tables() -> None:
    """Sampling stands beside the total, and what is unknown is a dash."""
    text, markdown = as_text(COMPARISON), as_markdown(COMPARISON, 'comparison.png')
    for title in ('Parameters and tokens', 'Multiply-adds (G)', 'Time and memory', 'Average prec'):
        assert title in text
        assert f'## {title}' in markdown
    assert '```bash\ncompare.py a b\n```' in markdown
    assert '| first | 28.0 | 0 | 1.0 | 2.0 | 3.0 | 4.0 | 5.0 | 6.0 | 7.0 | 1.0 |' in markdown
    assert '| second | 200.0 | 90.0-110.0 | 2.000 | - |' in markdown
    assert '| first | 0.500 | 0.700 | 0.300 | - | 0.600 |' in markdown
    assert '| second | - | - | - | - | - |' in markdown


def test_without_checkpoints_there_is_no_ap_table() -> None:
    """A table of dashes would say nothing."""
    assert 'Average precision' not in as_text(Comparison((result('one', 1),), {}))


def test_giga() -> None:
    """Small models keep digits."""
    assert [giga(n) for n in (0, 12_345_678, 204_144_237_248)] == ['0', '0.012', '204.1']


@pytest.mark.parametrize('accuracy', [None, Accuracy(0.5, 0.7, None, None, None)])
def test_picture(tmp_path: Path, accuracy: Accuracy | None) -> None:
    """Drawn with APs and without, also of a detector that has no encoder."""
    results = [result('a', 1, accuracy), result('b', 2), result('c', 3)]
    draw_comparison(results, tmp_path / 'picture.png')
    picture = cv2.imread(str(tmp_path / 'picture.png'))
    assert picture.shape[0] > 400
    assert picture.std() > 10


def test_long_names_are_broken() -> None:
    """At underscores, and nothing is lost."""
    assert short_name('salience-detr_r50_8xb2-12e_coco') == 'salience-detr_r50_8xb2-12e\n_coco'
    assert short_name('a_b') == 'a_b'


def test_names_differ() -> None:
    """Configs of one name in several folders are numbered."""
    assert name_configs(['x/a.py', 'y/a.py', 'b.py', 'a.py']) == ['a', 'a-2', 'b', 'a-3']


def test_checkpoints_in_order_or_by_name(tmp_path: Path) -> None:
    """One for each, a dash for none, or those that are named."""
    path = str(tmp_path / 'k=1.pth')
    Path(path).touch()
    url = 'https://example.com/a.pth'
    assert assign_checkpoints([], ['a', 'b']) == [None, None]
    assert assign_checkpoints(['-', path], ['a', 'b']) == [None, path]
    assert assign_checkpoints([f'b={path}'], ['a', 'b']) == [None, path]
    assert assign_checkpoints([f'b={path}', f'a={url}'], ['a', 'b']) == [url, path]


def test_checkpoints_that_fit_no_config(tmp_path: Path) -> None:
    """The message names the file, or the names to choose from."""
    with pytest.raises(FileNotFoundError, match=r'no checkpoint none\.pth'):
        assign_checkpoints(['a=none.pth'], ['a', 'b'])
    with pytest.raises(ValueError, match='3 entries for 2 configs'):
        assign_checkpoints(['-', '-', '-'], ['a', 'b'])
    with pytest.raises(ValueError, match='a name of a, b'):
        assign_checkpoints(['c=none.pth'], ['a', 'b'])
    with pytest.raises(ValueError, match='twice'):
        assign_checkpoints(['a=x.pth', 'a=y.pth'], ['a', 'b'])
