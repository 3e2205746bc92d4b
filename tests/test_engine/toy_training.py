"""A training that takes milliseconds a step and draws random numbers wherever one can."""

import multiprocessing
import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdet_salience.engine import DataFittingRunner

NUM_SAMPLES = 10
BATCH = 2
FEATURES = 4


class ToyData(BaseDataset):
    """Vectors with noise of all three generators, and a log of what was loaded here."""

    loaded: list[int]

    def load_data_list(self) -> list[dict]:
        """Sizes, by which batches can be grouped."""
        self.loaded = []
        return [dict(width=1 + index % 3, height=2, index=index) for index in range(NUM_SAMPLES)]

    def prepare_data(self, index: int) -> dict:
        """A vector with noise."""
        self.loaded.append(int(index))
        noise = random.random() + np.random.rand() + torch.rand(()).item()
        return dict(inputs=torch.full((FEATURES,), noise + int(index)))


class ToyModel(BaseModel):
    """Dropout, batch statistics and a noisy loss."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(FEATURES)
        self.layer = nn.Linear(FEATURES, 1)
        self.drop = nn.Dropout(0.5)

    def forward(self, inputs: list[Tensor], mode: str = 'tensor') -> Any:
        """Loss or value."""
        value = self.layer(self.drop(self.norm(torch.stack(inputs)))).square().mean()
        if mode == 'loss':
            return dict(loss=value * (1 + random.random() + float(np.random.rand())))
        return [value]


class OtherModel(ToyModel):
    """A model with other weights."""

    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Linear(2, 2)


class ToyMetric(BaseMetric):
    """The validation's loss, which the best checkpoint follows."""

    def process(self, data_batch: Any, data_samples: list) -> None:
        """Keep a value."""
        self.results.append(float(data_samples[0]))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Mean of the values."""
        return dict(error=float(np.mean(results)))


class Recorder(Hook):
    """Keeps losses, learning rates and validations, and does something after a given step.

    Args:
        at: Iteration after which ``action`` is called; the first is 1.
        action: Called with the runner.
    """

    priority = 'VERY_HIGH'

    def __init__(self, at: int = -1, action: Callable[[Any], None] | None = None) -> None:
        self.runner: Any = None
        self.losses: dict[int, float] = {}
        self.rates: dict[int, float] = {}
        self.validated: list[int] = []
        self.at, self.action = at, action

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any, outputs: dict) -> None:
        """Record a step."""
        self.losses[runner.iter + 1] = float(outputs['loss'])
        self.rates[runner.iter + 1] = runner.optim_wrapper.get_lr()['lr'][0]
        if self.action is not None and runner.iter + 1 == self.at:
            self.action(runner)

    def after_val_epoch(self, runner: Any, metrics: dict) -> None:
        """Record a validation."""
        self.validated.append(runner.iter)


def data_settings(
    by_epoch: bool = False, workers: int = 0, persistent: bool = False, **loader: Any
) -> dict[str, Any]:
    """Data and loops: 12 iterations with a validation every 4, or 3 epochs of 5."""
    kind = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    epochs = dict(type='EpochBasedTrainLoop', max_epochs=3)
    iterations = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=4)
    train = dict(
        batch_size=BATCH,
        num_workers=workers,
        persistent_workers=persistent,
        dataset=ToyData(serialize_data=False),
        sampler=dict(type=kind, shuffle=True),
    )
    val = dict(
        batch_size=BATCH,
        num_workers=0,
        dataset=ToyData(serialize_data=False),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    return dict(
        train_dataloader={**train, **loader},
        train_cfg=epochs if by_epoch else iterations,
        val_dataloader=val,
        val_cfg=dict(),
        val_evaluator=dict(type=ToyMetric),
        log_processor=dict(by_epoch=by_epoch),
    )


def optimizer_settings(by_epoch: bool = False, **wrapper: Any) -> dict[str, Any]:
    """AdamW with two schedules, one by iterations."""
    return dict(
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1), **wrapper),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6),
            dict(type='MultiStepLR', milestones=[2], gamma=0.5, by_epoch=by_epoch),
        ],
    )


def make_runner(
    folder: Path,
    recorder: Recorder | None = None,
    model: type[BaseModel] = ToyModel,
    seed: int | None = 7,
    by_epoch: bool = False,
    data: dict | None = None,
    wrapper: dict | None = None,
    checkpoint: dict | None = None,
    log_level: str = 'WARNING',
    ema: dict | None = None,
    **settings: Any,
) -> DataFittingRunner:
    """A runner of the toy training, with a checkpoint every 3 iterations or every epoch."""
    regular = dict(type='CheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else 3)
    best = dict(save_best='error', rule='less')
    torch.manual_seed(0)  # for the weights
    with mock.patch('mmengine.runner.runner.collect_env', dict):  # which calls compilers
        return DataFittingRunner(
            model=model(),
            work_dir=str(folder),
            **data_settings(by_epoch, **(data or {})),
            **optimizer_settings(by_epoch, **(wrapper or {})),
            default_hooks=dict(
                checkpoint={**regular, **best, **(checkpoint or {})},
                logger=dict(type='LoggerHook', interval=1, out_suffix='.txt'),
            ),
            custom_hooks=[
                ema or dict(type='EMAHook', momentum=0.1, update_buffers=True),
                recorder or Recorder(),
            ],
            visualizer=dict(type='Visualizer'),
            randomness=dict(seed=seed),
            experiment_name=uuid.uuid4().hex,  # nothing is shared with an earlier runner
            default_scope='mmdet',
            log_level=log_level,
            **settings,
        )


class Crash(Exception):
    """What ends a training without a word."""


def crash(runner: Any) -> None:
    """An action of the recorder."""
    raise Crash


def run(
    folder: Path, at: int = -1, action: Callable[[Any], None] | None = None, **settings: Any
) -> Recorder:
    """Train until the end or a crash; returns what was recorded."""
    recorder = Recorder(at, action)
    recorder.runner = make_runner(folder, recorder, **settings)
    with suppress(Crash):
        recorder.runner.train()
    return recorder


def start(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function in a forked process: as a program of its own, without its slow imports."""
    process = multiprocessing.get_context('fork').Process(target=function, args=args, kwargs=kwargs)
    process.start()
    return process


def read_log(folder: Path) -> str:
    """Log of the last run in a work folder."""
    return max(folder.glob('*/*.log'), key=lambda path: path.stat().st_mtime_ns).read_text()
