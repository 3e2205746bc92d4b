"""The documentation's example, so that it never rots: its pictures, its places, its messages."""

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT, build, inference_config, tiny_model_cfg
from matplotlib.figure import Figure
from mmdet.apis import init_detector

from mmdet_salience.apis import inspect_image

SCRIPT = ROOT / 'docs' / 'examples' / 'plot_salience.py'
HEIGHT, WIDTH = 40, 80  # enlarged to 80 x 160, padded to 96 x 160


def load_script() -> ModuleType:
    """Import the script under a name of its own."""
    spec = importlib.util.spec_from_file_location('docs_plot_salience', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


@pytest.fixture(scope='module')
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Config, checkpoint and image of a tiny detector."""
    root = tmp_path_factory.mktemp('plot')
    inference_config(tiny_model_cfg(num_classes=2)).dump(root / 'tiny.py')
    meta = dict(dataset_meta=dict(classes=('pore', 'crack')))
    weights = build(tiny_model_cfg(num_classes=2)).state_dict()
    torch.save(dict(state_dict=weights, meta=meta), root / 'tiny.pth')
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    cv2.imwrite(str(root / 'image.png'), pixels)
    return [str(root / name) for name in ('tiny.py', 'tiny.pth', 'image.png')]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run the script."""
    monkeypatch.setattr('sys.argv', [str(SCRIPT), *arguments])
    script.main()


def test_the_script_is_short() -> None:
    assert len(SCRIPT.read_text().splitlines()) < 60


def test_three_rows_of_four_levels(
    inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, 'savefig', lambda self, *a: (figures.append(self), save(self, *a)))
    run(monkeypatch, *inputs, '--layer', '0', '--out', str(tmp_path / 'plot.png'))
    assert cv2.imread(str(tmp_path / 'plot.png')).shape[0] == 8 * 72
    (figure,) = figures
    axes = np.reshape(figure.axes, (3, 4))
    labels = [axis.get_ylabel() for axis in axes[:2, 0]]
    assert labels == ['salience', 'tokens of encoder layer 0']
    shapes = ('12 x 20', '6 x 10', '3 x 5', '2 x 3')
    titles = [axis.get_title() for axis in axes[0]]
    assert titles == [f'level {level}, {shape} cells' for level, shape in enumerate(shapes)]
    counts = [[int(axis.get_title().split()[0]) for axis in row] for row in axes[1:]]
    # 200, 50, 15 and 6 cells lie in the image; the first layer takes 0.4, 0.8, 1 and 1 of them.
    assert counts[0] == [80, 40, 15, 6]
    assert sum(counts[1]) == 30  # all queries


def test_arrays_lie_where_they_belong(inputs: list[str]) -> None:
    """The mask spans the padded image, 80 x 48 in pixels of the image; the view ends at 40."""
    arrays = inspect_image(init_detector(*inputs[:2], palette='random', device='cpu'), inputs[2])
    axes = list(Figure().subplots(3, 1))
    script.plot_level(axes, arrays, 0, 1)
    image, mask = axes[1].images
    assert image.get_extent() == [0, WIDTH, HEIGHT, 0]
    assert mask.get_extent() == pytest.approx([0, 80, 48, 0])
    assert all(axis.get_ylim() == (HEIGHT, 0) for axis in axes)
    np.testing.assert_array_equal(mask.get_alpha() == 0, arrays.layer_masks(1)[0])


@pytest.mark.parametrize(
    'changes, message',
    [
        ({2: 'none.png'}, 'none.png'),
        ({0: 'none.py'}, 'none.py'),
        ({3: '--layer=2'}, '--layer 2: there are 2 encoder layers'),
    ],
)
def test_wrong_input_ends_in_a_line(
    inputs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    changes: dict[int, str],
    message: str,
) -> None:
    arguments = [changes.get(i, value) for i, value in enumerate([*inputs, '--layer=0'])]
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
