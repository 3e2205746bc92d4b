"""tools/demo.py: its parts with stand-ins, and the whole of it for a few steps."""

import importlib.util
import io
import os
import signal
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

TOOL = Path(__file__).resolve().parents[1] / 'tools' / 'demo.py'
FEW_STEPS = ['--max-steps', '4', '--num-train', '8', '--num-val', '4', '--num-pictures', '2']
SMALL_LOADERS = [
    f'{split}_dataloader.{key}'
    for split in ('train', 'val', 'test')
    for key in ('batch_size=2', 'num_workers=0', 'persistent_workers=False')
]


def load_tool() -> ModuleType:
    """Import ``tools/demo.py`` under a name of its own."""
    spec = importlib.util.spec_from_file_location('tools_demo', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = load_tool()


class FakeDataset:
    """Held-out images of 32 x 48 px, image i with one square of the given sides.

    Args:
        folder: Where the images are written.
        sides: Sides of the squares of each image; no object for an empty list.
    """

    def __init__(self, folder: Path, sides: list[list[int]]) -> None:
        """Write the images; see the class for the arguments."""
        self.folder, self.sides = folder, sides
        for i in range(len(sides)):
            cv2.imwrite(str(folder / f'{i}.png'), np.full((32, 48, 3), (0, 0, 200), np.uint8))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.sides)

    def get_data_info(self, index: int) -> dict:
        """Path and annotations of an image."""
        instances = [dict(bbox=[2, 2, 2 + s, 2 + s], bbox_label=1) for s in self.sides[index]]
        return dict(img_path=str(self.folder / f'{index}.png'), instances=instances)

    def __getitem__(self, index: int) -> dict:
        """Input and sample, as a test pipeline packs them."""
        sample = DetDataSample(metainfo=dict(ori_shape=(32, 48), img_shape=(64, 96)))
        return dict(inputs=torch.zeros(3, 64, 96), data_samples=sample)


class FakeDetector:
    """Finds one box, and is certain of salience in the upper half of a 64 x 128 canvas."""

    def data_preprocessor(self, data: dict, training: bool) -> dict:
        """Pad to 64 x 128."""
        inputs = torch.nn.functional.pad(torch.stack(data['inputs']), (0, 32))
        return dict(inputs=inputs, data_samples=data['data_samples'])

    def inspect(self, batch_inputs: torch.Tensor, batch_data_samples: list) -> SimpleNamespace:
        """Return one detection and two levels of salience."""
        batch_data_samples[0].pred_instances = InstanceData(
            bboxes=torch.tensor([[1.0, 2.0, 9.0, 8.0]]),
            labels=torch.tensor([1]),
            scores=torch.tensor([0.75]),
        )
        fine = torch.full((1, 8, 16), -9.0)
        fine[:, :4] = 9.0
        return SimpleNamespace(
            salience=(fine, torch.full((1, 4, 8), -9.0)), detections=batch_data_samples
        )


def test_pictures_cover_the_range_of_sizes(tmp_path: Path) -> None:
    """Images are ordered by their largest object and taken evenly, ends included."""
    dataset = FakeDataset(tmp_path, [[9], [], [3, 25], [5], [14]])
    assert demo.choose_pictures(dataset, 3) == [1, 0, 2]
    assert demo.choose_pictures(dataset, 99) == [1, 3, 0, 4, 2]
    assert demo.choose_pictures(dataset, 1) == [1]


def test_a_picture_holds_salience_in_image_pixels(tmp_path: Path) -> None:
    """Salience of the padded, resized input comes back at the size of the image, in place."""
    row = demo.inspect_picture(FakeDetector(), FakeDataset(tmp_path, [[5]]), 0)
    assert row.heat.shape == (32, 48)
    assert row.heat[:12].min() > 0.9
    assert row.heat[20:].max() < 0.1
    np.testing.assert_array_equal(row.bboxes, [[1, 2, 9, 8]])
    np.testing.assert_array_equal(row.gt_bboxes, [[2, 2, 7, 7]])
    assert (row.scores.tolist(), row.gt_labels.tolist(), row.caption) == ([0.75], [1], '0.png')
    assert row.image[0, 0].tolist() == [200, 0, 0]


def test_a_picture_without_objects_has_no_boxes(tmp_path: Path) -> None:
    """The shapes of empty arrays are right."""
    row = demo.inspect_picture(FakeDetector(), FakeDataset(tmp_path, [[]]), 0)
    assert (row.gt_bboxes.shape, row.gt_labels.shape) == ((0, 4), (0,))


def test_metrics_are_percent_and_absent_sizes_a_dash() -> None:
    """-1 is pycocotools' mark for a size that no object has."""
    metrics = {
        'coco/bbox_mAP': 0.4321,
        'coco/bbox_mAP_50': 0.7,
        'coco/bbox_mAP_s': 0.0,
        'coco/bbox_mAP_m': 0.5,
        'coco/bbox_mAP_l': -1.0,
    }
    assert demo.describe_metrics(metrics).split('   ') == [
        'AP 43.2',
        'AP50 70.0',
        'APs 0.0',
        'APm 50.0',
        'APl -',
    ]


def test_progress_prints_the_mean_loss_at_intervals_and_at_the_end() -> None:
    """Five steps at interval two: lines after 2, 4 and 5."""
    screen = io.StringIO()
    hook, runner = demo.ProgressHook(2, screen), SimpleNamespace(max_iters=5)
    hook.before_train(runner)
    for i in range(5):
        hook.after_train_iter(runner, i, outputs=dict(loss=torch.tensor(float(i))))
    lines = screen.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ['2/5', '4/5', '5/5']
    assert [float(line.split()[3]) for line in lines] == [0.5, 2.5, 4.0]


def test_bad_numbers_are_usage_errors(capsys: pytest.CaptureFixture) -> None:
    """No steps, no pictures and a negative seed end with a message."""
    for argv, message in (
        (['--max-steps', '0'], '--max-steps: must be a whole number of at least 1, not 0'),
        (['--num-pictures', '-1'], '--num-pictures: must be a whole number of at least 1'),
        (['--seed', '-1'], 'seed must be not negative'),
    ):
        with pytest.raises(SystemExit) as stop:
            demo.main(argv)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


def test_an_interrupt_is_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Ctrl-C ends with a sentence and the usual status instead of a traceback."""

    def interrupt(*_: object, **__: object) -> None:
        """Stand in for a user who presses Ctrl-C."""
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, 'generate_synthetic_defects', interrupt)
    assert demo.main(['--work-dir', str(tmp_path)]) == 130
    assert 'Stopped.' in capsys.readouterr().out


def test_interruption_of_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner has saved a checkpoint then, and asks the process to end."""
    after_step = demo.ProgressHook.after_train_iter

    def interrupt(hook: demo.ProgressHook, *args: object, **kwargs: object) -> None:
        """Let the step end as if Ctrl-C had been pressed meanwhile."""
        after_step(hook, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(demo.ProgressHook, 'after_train_iter', interrupt)
    arguments = ['--work-dir', str(tmp_path), *FEW_STEPS, '--cfg-options', *SMALL_LOADERS]
    assert demo.main(arguments) == 130
    assert 'Stopped.' in capsys.readouterr().out
    assert (tmp_path / 'interrupted_iter_1.pth').is_file()


def test_the_demo_runs_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A few steps leave a checkpoint and pictures; the last lines tell AP and where they are."""
    assert (
        demo.main(['--work-dir', str(tmp_path), *FEW_STEPS, '--cfg-options', *SMALL_LOADERS]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert any('step 4/4   loss' in line for line in lines)
    assert all(f'{name} ' in lines[-3] for name in ('AP', 'AP50', 'APs', 'APm', 'APl'))
    assert str(tmp_path / 'pictures') in lines[-2]
    assert str(tmp_path / 'report' / 'index.html') in lines[-1]
    assert len(list((tmp_path / 'pictures').glob('0*.png'))) == 2
    assert (tmp_path / 'pictures' / 'overview.png').is_file()
    assert (tmp_path / 'report' / 'report.json').is_file()
    assert (tmp_path / 'iter_4.pth').is_file()
