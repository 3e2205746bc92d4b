"""Steps with a loss that is no number: reported, kept from the weights, skipped on request."""

import copy
import logging
import math
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import build, make_batch, tiny_model_cfg
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.device import get_device
from mmengine.dist import get_rank
from mmengine.model import BaseModel
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from several_processes import run_on_ranks
from torch import nn

from mmdet_salience.engine import NonFiniteLossHook
from mmdet_salience.engine.hooks.batch_record import image_names, save_record


@MODELS.register_module(force=True)
class Toy(BaseModel):
    """Linear layer and batch norm; what the samples say makes a loss or a gradient no number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, inputs: list, data_samples: list, mode: str = 'loss') -> dict:
        """Losses, whatever the mode."""
        output = self.norm(self.fc(torch.stack(inputs)))
        loss = (output - output.new_tensor([0, 1])).square().mean()
        aux = self.fc.weight.square().mean()
        for sample in data_samples:
            if sample.get('trouble') == 'loss':  # no gradient: only the number is infinite
                aux = aux + math.inf
            if sample.get('trouble') == 'gradient':  # 0 * inf behind the root
                loss = loss + (self.fc.weight * 0).sum().sqrt()
        return dict(loss_main=loss, loss_aux=[aux, aux.detach() * 0], accuracy=loss.new_tensor(0.5))


def toy_batches(num_batches: int, troubles: dict[int, str], size: int = 4, seed: int = 0) -> list:
    """Batches of random vectors; ``troubles`` says which have what."""
    source = torch.Generator().manual_seed(seed)
    data = []
    for index in range(num_batches * size):
        batch = index // size
        sample = DetDataSample(metainfo=dict(img_path=f'image_{index}.png'))
        inputs = torch.randn(3, generator=source)
        if index % size == 1 and batch in troubles:
            sample.set_metainfo(dict(trouble=troubles[batch]))
            if troubles[batch] == 'input':
                inputs[0] = math.nan
        data.append(dict(inputs=inputs, data_samples=sample))
    return data


def toy_runner(
    work_dir: Path, data: list, wrapper: dict | None = None, launcher: str = 'none', **hook: int
) -> Runner:
    """A runner over the batches in order."""
    optimizer = dict(type='AdamW', lr=0.1, weight_decay=0.1)
    return Runner(
        model=dict(type='Toy'),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=data,
            batch_size=4,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        optim_wrapper=dict(optimizer=optimizer, **(wrapper or {})),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        custom_hooks=[dict(type='NonFiniteLossHook', **hook)],
        default_hooks=dict(checkpoint=None),
        experiment_name=f'toy_{work_dir.name}_{os.urandom(4).hex()}',
        default_scope='mmdet',
        launcher=launcher,
        log_level='WARNING',
        cfg=dict(
            model_wrapper_cfg=dict(
                type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
            )
        ),
    )


def state(runner: Runner) -> dict:
    """A copy of weights and statistics."""
    return copy.deepcopy(runner.model.state_dict())


def assert_equal(one: dict, other: dict) -> None:
    """Compare states exactly."""
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0, msg=name)


CLIP = dict(clip_grad=dict(max_norm=0.1))


@pytest.mark.parametrize('wrapper', [{}, CLIP], ids=['free', 'clipped'])
@pytest.mark.parametrize('trouble', ['input', 'loss', 'gradient'])
def test_a_bad_step_stops_and_leaves_the_weights(
    tmp_path: Path, trouble: str, wrapper: dict
) -> None:
    runner = toy_runner(tmp_path, toy_batches(3, {2: trouble}), wrapper)
    with pytest.raises(FloatingPointError) as caught:
        runner.train()
    good = toy_runner(tmp_path, toy_batches(2, {}), wrapper)
    good.train()
    assert_equal(state(runner), state(good))
    message = str(caught.value)
    assert 'iteration 3, rank 0' in message
    assert all(f'image_{index}.png' in message for index in range(8, 12))
    assert 'image_7.png' not in message
    causes = dict(
        input='not finite: loss nan, loss_main nan\n  finite: loss_aux 0.',
        loss='not finite: loss nan, loss_aux nan\n  finite: loss_main 0.',
        gradient='not finite: the gradient, while the loss is finite\n  finite: loss ',
    )
    assert causes[trouble] in message
    path = tmp_path / 'non_finite' / 'iter_3_rank0.pth'
    assert str(path) in message
    record = torch.load(path, weights_only=True)
    assert (record['iteration'], record['rank']) == (3, 0)
    assert set(record['losses']) == {'loss', 'loss_main', 'loss_aux'}
    assert record['batch']['data_samples'][1]['img_path'] == 'image_9.png'
    assert len(record['batch']['inputs']) == 4


def listen(runner: Runner) -> list[str]:
    """What the runner logs from now on."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    runner.logger.addHandler(handler)
    runner.logger.setLevel('INFO')
    return lines


def test_skipping_is_as_if_the_batch_were_not_there(tmp_path: Path) -> None:
    data = toy_batches(5, {1: 'input', 3: 'loss'})
    runner = toy_runner(tmp_path, data, max_skips=2)
    lines = listen(runner)
    runner.train()
    rest = [sample for index, sample in enumerate(data) if index // 4 not in (1, 3)]
    good = toy_runner(tmp_path, rest)
    good.train()
    assert_equal(state(runner), state(good))
    assert any('was not finite: 2.' in line for line in lines)
    assert any('step skipped (1 of at most 2)' in line for line in lines)
    names = sorted(path.name for path in (tmp_path / 'non_finite').iterdir())
    assert names == ['iter_2_rank0.pth', 'iter_4_rank0.pth']


def test_one_skip_too_many(tmp_path: Path) -> None:
    runner = toy_runner(tmp_path, toy_batches(4, {0: 'input', 2: 'input'}), max_skips=1)
    with pytest.raises(FloatingPointError, match=r'(?s)iteration 3.*1 steps were skipped before'):
        runner.train()


def test_earlier_records_stay(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(FloatingPointError):
            toy_runner(tmp_path, toy_batches(1, {0: 'input'})).train()
    names = sorted(path.name for path in (tmp_path / 'non_finite').iterdir())
    assert names == ['iter_1_rank0.pth', 'iter_1_rank0_2.pth']


def test_accumulated_gradients_blame_the_right_batch(tmp_path: Path) -> None:
    # Steps of two batches: the first batch of the second step is bad.
    data = toy_batches(6, {2: 'input'})
    runner = toy_runner(tmp_path, data, dict(accumulative_counts=2), max_skips=1)
    runner.train()
    names = [path.name for path in (tmp_path / 'non_finite').iterdir()]
    assert names == ['iter_3_rank0.pth']
    rest = [sample for index, sample in enumerate(data) if index // 4 not in (2, 3)]
    good = toy_runner(tmp_path, rest, dict(accumulative_counts=2))
    good.train()
    assert_equal(state(runner), state(good))


def test_negative_number_of_skips() -> None:
    with pytest.raises(ValueError, match='max_skips=-1'):
        NonFiniteLossHook(max_skips=-1)


def test_a_good_run_is_not_changed(tmp_path: Path) -> None:
    watched = toy_runner(tmp_path, toy_batches(4, {}))
    watched.train()
    plain = toy_runner(tmp_path, toy_batches(4, {}))
    plain._hooks = [hook for hook in plain.hooks if not isinstance(hook, NonFiniteLossHook)]
    assert len(plain.hooks) == len(watched.hooks) - 1
    plain.train()
    assert_equal(state(watched), state(plain))
    assert not (tmp_path / 'non_finite').exists()


# ------------------------------------------------------------------------------ gradient scaler


@pytest.fixture
def cpu_scaler(monkeypatch: pytest.MonkeyPatch) -> None:
    """MMEngine's wrapper for mixed precision with a gradient scaler on the CPU."""
    if get_device() != 'cpu' or not hasattr(torch.amp, 'GradScaler'):
        pytest.skip('for CPUs, and a PyTorch with a gradient scaler for them')
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    scaler = partial(torch.amp.GradScaler, device='cpu')
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', scaler)


@pytest.mark.parametrize('clip', [{}, CLIP], ids=['free', 'clipped'])
def test_steps_that_the_gradient_scaler_skips_are_no_errors(
    tmp_path: Path, cpu_scaler: None, clip: dict
) -> None:
    wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', **clip)
    wrapper['loss_scale'] = dict(init_scale=2.0**127)  # too large at first; it halves
    runner = toy_runner(tmp_path, toy_batches(8, {}), wrapper)
    before = state(runner)
    runner.train()
    assert runner.optim_wrapper.loss_scaler.get_scale() < 2.0**127
    assert not torch.equal(before['fc.weight'], runner.model.fc.weight)
    assert not (tmp_path / 'non_finite').exists()


@pytest.mark.parametrize('trouble', ['input', 'loss'])
def test_a_bad_loss_under_the_gradient_scaler_is_an_error(
    tmp_path: Path, cpu_scaler: None, trouble: str
) -> None:
    wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(init_scale=8.0))
    runner = toy_runner(tmp_path, toy_batches(3, {1: trouble}), wrapper)
    with pytest.raises(FloatingPointError, match='iteration 2'):
        runner.train()
    good = toy_runner(tmp_path, toy_batches(1, {}), wrapper)
    good.train()
    assert_equal(state(runner), state(good))


# ------------------------------------------------------------------------------ several processes


def train_on_two_ranks(folder: Path) -> None:
    """One process of two; only rank 1 has a bad batch."""
    # Samples go to the ranks in turn, so that number 9 is in the second batch of rank 1.
    runner = toy_runner(folder, toy_batches(4, {2: 'loss'}), launcher='pytorch')
    assert isinstance(runner.model, nn.parallel.DistributedDataParallel)
    try:
        runner.train()
        text = 'no error'
    except FloatingPointError as error:
        text = str(error)
    (folder / f'rank_{get_rank()}.txt').write_text(text)


def test_all_processes_decide_alike(tmp_path: Path) -> None:
    run_on_ranks(train_on_two_ranks, tmp_path, tmp_path)
    texts = [(tmp_path / f'rank_{rank}.txt').read_text() for rank in range(2)]
    assert texts[0] == texts[1]
    assert 'iteration 2, rank 1' in texts[0]
    assert 'rank 0' not in texts[0]
    assert [path.name for path in (tmp_path / 'non_finite').iterdir()] == ['iter_2_rank1.pth']


# ------------------------------------------------------------------------------ the detector


def test_the_record_holds_boxes_labels_and_meta(tmp_path: Path) -> None:
    sample = DetDataSample(metainfo=dict(img_id=7, img_shape=(4, 6), scale_factor=np.ones(2)))
    boxes = HorizontalBoxes(torch.tensor([[0.0, 1.0, 2.0, 3.0]]))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([2]))
    batch = dict(inputs=[torch.zeros(3, 4, 6, dtype=torch.uint8)], data_samples=[sample])
    assert image_names(batch) == ('image 7',)
    record = torch.load(save_record(batch, tmp_path, 'x'), weights_only=True)
    saved = record['data_samples'][0]
    assert saved['img_shape'] == [4, 6]
    assert saved['scale_factor'].tolist() == [1.0, 1.0]
    assert saved['gt_instances']['bboxes'].tolist() == [[0.0, 1.0, 2.0, 3.0]]
    assert saved['gt_instances']['labels'].tolist() == [2]
    assert record['inputs'][0].dtype == torch.uint8


def test_a_folder_that_cannot_be_written_does_not_hide_the_cause(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    assert 'not written' in save_record(dict(a=1), tmp_path / 'file', 'x')


def test_the_detector_reaches_its_loss_with_pixels_that_are_no_numbers() -> None:
    # The matching would fail with "matrix contains invalid numeric entries".
    model = build(tiny_model_cfg()).train()
    pixels = torch.randn(3, 64, 64)
    pixels[0, 20, 20] = math.nan
    batch, samples = make_batch([pixels], [[[8, 8, 40, 50]]], [[1]])
    total, terms = model.parse_losses(model.loss(batch, samples))
    assert not torch.isfinite(total)
    assert not math.isfinite(terms['loss_cls'])
