"""Show Salience DETR at work in a few minutes on a CPU; this is what ``make demo`` runs.

Draws synthetic surface defects, trains the small demo model on them, evaluates it on held-out
images and saves pictures of its detections and of its salience: ``python tools/demo.py``.
"""

import argparse
import contextlib
import io
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout's own package
sys.path.append(str(Path(__file__).resolve().parent))  # for _settings

from _settings import SettingsAction

from mmdet_salience.datasets.config_data import data_files
from mmdet_salience.datasets.synthetic_defects import SyntheticDefects, generate_synthetic_defects
from mmdet_salience.evaluation import EvaluationReport
from mmdet_salience.visualization import PanelRow, demo_panel, salience_heatmap

CONFIG = Path(__file__).resolve().parents[1] / 'configs/salience_detr/salience-detr_r18_demo.py'
METRICS = {'AP': '', 'AP50': '_50', 'APs': '_s', 'APm': '_m', 'APl': '_l'}
LOADERS = {'train_dataloader': 'train', 'val_dataloader': 'val', 'test_dataloader': 'val'}
EXIT_INTERRUPTED = 130
# A little larger and clearer than the default, so that a few minutes of training show something.
DATA_SETTINGS = dict(min_defect_px=10.0, contrast=1.3)


class ProgressHook(Hook):
    """Print the mean loss and the time left once in a while.

    Args:
        interval: Steps from line to line.
        screen: Where the lines go.
    """

    def __init__(self, interval: int, screen: TextIO) -> None:
        """Start with an empty record; see the class for the arguments."""
        self.interval, self.screen = interval, screen
        self.losses: list[float] = []
        self.start = 0.0

    def before_train(self, runner: Runner) -> None:
        """Start the clock; ``runner`` is not used."""
        self.start = time.monotonic()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Note the loss, and print a line where one is due.

        Args:
            runner: The runner.
            batch_idx: Number of the step, from 0.
            data_batch: The data of the step.
            outputs: The losses of the step; ``loss`` is their sum.
        """
        self.losses.append(outputs['loss'].item())
        done, total = batch_idx + 1, runner.max_iters
        if done % self.interval and done != total:
            return
        pace = (time.monotonic() - self.start) / done
        left = round(pace * (total - done))
        loss, time_left = np.mean(self.losses), f'{left // 60}:{left % 60:02d}'
        line = f'step {done}/{total}   loss {loss:.3f}   {pace:.2f} s/step   {time_left} left'
        print(f'  {line}', file=self.screen, flush=True)
        self.losses.clear()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries print, and their warnings, off the screen."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        yield


def positive_int(text: str) -> int:
    """Read a whole number of at least 1 from the command line; ArgumentTypeError if it is none."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number of at least 1, not {text}')
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(
        description='Train and show a small Salience DETR on synthetic surface defects.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    count = dict(type=positive_int)
    parser.add_argument('--work-dir', default='work_dirs/demo', help='folder of all output')
    parser.add_argument('--max-steps', **count, help='training steps; None: as configured')
    parser.add_argument('--num-train', **count, default=600, help='training images')
    parser.add_argument('--num-val', **count, default=100, help='held-out images')
    parser.add_argument('--num-pictures', **count, default=8, help='held-out images to draw')
    parser.add_argument('--score-thr', type=float, default=0.3, help='least score to draw')
    parser.add_argument('--seed', type=int, default=0, help='seed of the data and the training')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=SettingsAction,
        metavar='KEY=VALUE',
        help='override settings',
    )
    return parser


def load_config(args: argparse.Namespace, data: SyntheticDefects) -> Config:
    """Read the demo's config and fit it to the command line and the data.

    Args:
        args: The command line.
        data: Where the data lies.

    Returns:
        The config; validation is left to the caller, one checkpoint is saved at the end.
    """
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(args.cfg_options or {})
    for loader, split in LOADERS.items():
        cfg[loader].dataset.update(
            data_root=str(data.root),
            data_prefix=dict(img=f'{split}/'),
            ann_file=str(data.ann_files[split].relative_to(data.root)),
        )
    steps = args.max_steps or cfg.train_cfg.max_iters
    cfg.train_cfg.update(max_iters=steps, val_begin=steps + 1)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=steps)
    cfg.work_dir = args.work_dir
    cfg.randomness = dict(seed=args.seed)
    cfg.log_level = 'ERROR'
    return cfg


def build_runner(cfg: Config, screen: TextIO) -> Runner:
    """Build the runner; its full log goes to the log file and only errors to the screen.

    Args:
        cfg: The config.
        screen: Where the progress goes.

    Returns:
        The runner, with a hook that prints the progress.
    """
    runner = RUNNERS.build(cfg)
    runner.logger.setLevel(logging.INFO)
    for handler in runner.logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.INFO)
    runner.register_hook(ProgressHook(cfg.default_hooks.logger.interval, screen))
    return runner


def choose_pictures(dataset: BaseDataset, number: int) -> list[int]:
    """Choose images that show the range of object sizes, evenly by their largest object.

    Args:
        dataset: The held-out images.
        number: Images to choose; all if there are fewer.

    Returns:
        Indices into the dataset, from small objects to large ones.
    """
    areas = []
    for i in range(len(dataset)):
        boxes = [instance['bbox'] for instance in dataset.get_data_info(i)['instances']]
        areas.append(max(((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes), default=0.0))
    order = np.argsort(areas, kind='stable')
    places = np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int)
    return order[places].tolist()


@torch.no_grad()
def inspect_picture(model: torch.nn.Module, dataset: BaseDataset, index: int) -> PanelRow:
    """Detect objects in one image, and look at the salience on the way.

    Args:
        model: The detector, in evaluation mode; has ``inspect``.
        dataset: The held-out images.
        index: Which image.

    Returns:
        What is to be drawn.
    """
    batch = model.data_preprocessor(pseudo_collate([dataset[index]]), training=False)
    inspection = model.inspect(batch['inputs'], batch['data_samples'])
    sample = inspection.detections[0]
    found = sample.pred_instances.cpu().numpy()
    heat = salience_heatmap(
        [level[0].float().cpu().numpy() for level in inspection.salience],
        image_shape=sample.ori_shape[:2],
        content_shape=sample.img_shape[:2],
        canvas_shape=tuple(batch['inputs'].shape[-2:]),
    )
    info = dataset.get_data_info(index)
    image = mmcv.imread(info['img_path'], channel_order='rgb')
    detections = found.bboxes, found.labels, found.scores
    boxes = np.array([instance['bbox'] for instance in info['instances']], dtype=float)
    labels = np.array([instance['bbox_label'] for instance in info['instances']], dtype=int)
    caption = Path(info['img_path']).name
    return PanelRow(image, heat, *detections, boxes.reshape(-1, 4), labels, caption)


def save_pictures(
    runner: Runner, folder: Path, number: int, score_thr: float, overview_dpi: int = 80
) -> Path:
    """Draw held-out images with their ground truth, detections and salience.

    Args:
        runner: The runner, after the evaluation.
        folder: Folder of the pictures, one a held-out image and an overview of all.
        number: Images to draw.
        score_thr: Score from which detections are drawn.
        overview_dpi: Pixels an inch of the overview.

    Returns:
        The overview.
    """
    dataset = runner.val_dataloader.dataset
    runner.model.eval()
    rows = [inspect_picture(runner.model, dataset, i) for i in choose_pictures(dataset, number)]
    names = dataset.metainfo['classes'], dataset.metainfo['palette']
    for row in rows:
        demo_panel([row], folder / row.caption, *names, score_thr)
    return demo_panel(rows, folder / 'overview.png', *names, score_thr, dpi=overview_dpi)


def describe_metrics(metrics: dict[str, float]) -> str:
    """Write the metrics (0..1, negative where undefined) in percent, on one line."""
    values = {name: metrics.get(f'coco/bbox_mAP{end}', -1.0) for name, end in METRICS.items()}
    return '   '.join(
        f'{name} {100 * v:.1f}' if v >= 0 else f'{name} -' for name, v in values.items()
    )


def add_report(runner: Runner, folder: Path) -> None:
    """Let the evaluation end in a report.

    Args:
        runner: The runner, to whose metrics the report is added.
        folder: Folder of the report.
    """
    files = data_files(runner.cfg.val_dataloader.dataset)
    title = 'The demo on its held-out images'
    metric = EvaluationReport(str(folder), files.ann_file, files.image_root, title=title)
    metric.dataset_meta = runner.val_dataloader.dataset.metainfo
    runner.val_loop.evaluator.metrics.append(metric)


def train(runner: Runner) -> None:
    """Train; the runner's orderly end after Ctrl-C becomes that of the demo.

    Args:
        runner: The runner.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    try:
        runner.train()
    except SystemExit as stop:
        if stop.code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt from stop
        raise


def train_and_show(cfg: Config, num_pictures: int, score_thr: float) -> None:
    """Train, evaluate and draw.

    Args:
        cfg: The config.
        num_pictures: Held-out images to draw.
        score_thr: Score from which detections are drawn.
    """
    work_dir, steps, screen = Path(cfg.work_dir), cfg.train_cfg.max_iters, sys.stdout
    print(f'[2/4] Training {steps} steps; full log in {work_dir}', flush=True)
    with quiet():
        runner = build_runner(cfg, screen)
        train(runner)
    print('[3/4] Evaluating on the held-out images', flush=True)
    with quiet():
        add_report(runner, work_dir / 'report')
        metrics = runner.val()
    print('[4/4] Drawing held-out images', flush=True)
    overview = save_pictures(runner, work_dir / 'pictures', num_pictures, score_thr)
    print(f'\nCheckpoint: {work_dir / f"iter_{steps}.pth"}')
    print(f'Held-out images: {describe_metrics(metrics)}')
    print(f'Pictures: {overview.parent} (start with {overview.name})')
    print(f'Report: {work_dir / "report" / "index.html"} (open it in a browser)')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo.

    Args:
        argv: Command line without the program's name; that of the process by default.

    Returns:
        The exit status.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        print(f'[1/4] Drawing {args.num_train} + {args.num_val} images with synthetic defects')
        try:
            data = generate_synthetic_defects(
                Path(args.work_dir, 'data'),
                args.num_train,
                args.num_val,
                seed=args.seed,
                **DATA_SETTINGS,
            )
        except ValueError as error:
            parser.error(str(error))
        print(f'  {"found" if data.reused else "written"} in {data.root}', flush=True)
        train_and_show(load_config(args, data), args.num_pictures, args.score_thr)
    except KeyboardInterrupt:
        print(f'\nStopped. The same command starts again and reuses the data in {args.work_dir}.')
        return EXIT_INTERRUPTED
    return 0


if __name__ == '__main__':
    sys.exit(main())
