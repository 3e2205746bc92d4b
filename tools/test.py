"""Test a detector: metrics, a report of them, predictions in a file, painted pictures.

Usage: ``python tools/test.py CONFIG CHECKPOINT [--report DIR] [--out results.pkl] [--tta] ...``
"""

import argparse
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # for _common, however this is loaded

from _ctrl_c import end_without_traceback

if __name__ == '__main__':
    end_without_traceback()  # before the imports that take seconds

from _common import add_run_options, build_runner, end_processes, load_config, prepare_process
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

TTA_META_KEYS = (
    'img_id',
    'img_path',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'flip',
    'flip_direction',
)


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description='Test a detector.')
    add_run_options(parser, 'metrics', 'test_dataloader.batch_size=4')
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument('--out', metavar='RESULTS.pkl', help='save the predictions to this file')
    parser.add_argument(
        '--report',
        metavar='DIR',
        help='write an evaluation to this folder: index.html to read, report.json; an older '
        'one there is replaced',
    )
    parser.add_argument('--show', action='store_true', help='show the predictions on screen')
    parser.add_argument(
        '--show-dir',
        help='save painted pictures to this folder, which is relative to WORK_DIR/TIME',
    )
    parser.add_argument(
        '--wait-time', type=float, default=2.0, help='seconds that --show shows a picture'
    )
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    return parser


def load_test_config(args: argparse.Namespace) -> Config:
    """Read the config of a test of the given checkpoint.

    Args:
        args: The command line.

    Returns:
        The config; its imports have run.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If the config has no test data.
    """
    cfg = load_config(args)
    if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'there is no checkpoint {args.checkpoint}; check the path')
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        if cfg.get(key) is None:
            raise ValueError(f'{args.config} has no {key}; add it to test with this config')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    return cfg


def enable_drawing(cfg: Config, show: bool, show_dir: str | None, wait_time: float) -> None:
    """Let the visualization hook paint every test picture; changes the config in place.

    Args:
        cfg: The config.
        show: Whether to show the pictures on screen.
        show_dir: Folder to save them to, if any.
        wait_time: Seconds that a picture is shown.

    Raises:
        ValueError: If the config has no visualization hook.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise ValueError(
            '--show and --show-dir need a hook that draws; set default_hooks = '
            "dict(visualization=dict(type='DetVisualizationHook')) in the config"
        )
    hook.draw = True
    if show:
        hook.show = True
        hook.wait_time = wait_time
    if show_dir is not None:
        hook.test_out_dir = show_dir


def flip_pipeline(pipeline: Sequence[ConfigDict]) -> list[dict]:
    """Let a test pipeline end in the picture and its mirror image.

    Args:
        pipeline: Test pipeline; its last step packs the inputs.

    Returns:
        The pipeline for test-time augmentation.
    """
    flips = [dict(type='RandomFlip', prob=prob) for prob in (1.0, 0.0)]
    pack = dict(type='PackDetInputs', meta_keys=TTA_META_KEYS)
    augment = dict(type='TestTimeAug', transforms=[flips, [pack]])
    return [*deepcopy(list(pipeline[:-1])), augment]


def enable_tta(cfg: Config, nms_iou: float = 0.5, max_per_img: int = 100) -> None:
    """Wrap the model in test-time augmentation; changes the config in place.

    The config's ``tta_model`` and ``tta_pipeline`` are used where it has them, otherwise the
    picture and its mirror image, merged by NMS.

    Args:
        cfg: The config.
        nms_iou: IoU above which the default merge drops the weaker of two boxes.
        max_per_img: Boxes that the default merge keeps in a picture.
    """
    from mmdet_salience.datasets.config_data import leaf_datasets  # prefer_checkout has run

    if 'tta_model' not in cfg:
        merge = dict(nms=dict(type='nms', iou_threshold=nms_iou), max_per_img=max_per_img)
        cfg.tta_model = dict(type='DetTTAModel', tta_cfg=merge)
    for dataset in leaf_datasets(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.get('tta_pipeline') or flip_pipeline(dataset.pipeline)
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def prepare_config(args: argparse.Namespace) -> Config:
    """Turn the command line into the config of the run.

    Args:
        args: The command line.

    Returns:
        The config.

    Raises:
        ValueError: If the predictions cannot be saved under the given name.
    """
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        raise ValueError(f'--out writes a pickle; let {args.out} end in .pkl or .pickle')
    cfg = load_test_config(args)
    if args.show or args.show_dir is not None:
        enable_drawing(cfg, args.show, args.show_dir, args.wait_time)
    if args.tta:
        enable_tta(cfg)
    return cfg


def add_report(runner: Runner, args: argparse.Namespace) -> None:
    """Let a test end in a report.

    Args:
        runner: The runner, to whose metrics the report is added.
        args: The command line.

    Raises:
        FileNotFoundError: There is no annotation file.
        ValueError: The test data is not in COCO format, or the report cannot be written.
    """
    from mmdet_salience.datasets.config_data import data_files, split_datasets
    from mmdet_salience.evaluation import EvaluationReport
    from mmdet_salience.evaluation.coco_objects import reads_coco

    datasets = split_datasets(runner.cfg, 'test')
    if len(datasets) != 1 or not reads_coco(datasets[0].type):
        raise ValueError(
            '--report needs one test dataset that reads its annotations as CocoDataset does; '
            f'{args.config} has {", ".join(str(dataset.type) for dataset in datasets)}'
        )
    files = data_files(datasets[0])
    metric = EvaluationReport(
        args.report,
        files.ann_file,
        files.image_root,
        title=f'Evaluation of {Path(args.config).stem}',
        notes=[
            f'Checkpoint {Path(args.checkpoint).name}{", test-time augmentation" * args.tta}',
            f'Annotations {Path(files.ann_file).name}',
        ],
        backend_args=datasets[0].get('backend_args'),
    )
    metric.dataset_meta = runner.test_dataloader.dataset.metainfo
    runner.test_evaluator.metrics.append(metric)


def main(argv: Sequence[str] | None = None) -> None:
    """Test.

    Args:
        argv: Command line without the program's name; that of the process by default.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    prepare_process(args.local_rank)
    try:
        cfg = prepare_config(args)
        cfg.fit_splits = ['test']
        runner = build_runner(cfg)
        if args.report is not None:
            add_report(runner, args)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if args.out is not None:
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()
    del runner  # which holds the model, and so the other processes
    end_processes()


if __name__ == '__main__':
    main()
