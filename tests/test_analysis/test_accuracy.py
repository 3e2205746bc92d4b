"""AP on shared data."""

from pathlib import Path

import pytest
import torch
from coco_samples import make_coco, write_coco
from mmdet.models import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from tiny_detectors import tiny_dino_cfg, whole_config
from torch import Tensor

from mmdet_salience.analysis.accuracy import Accuracy, measure_accuracy, prepare_evaluation

NUM_IMAGES = 4


@MODELS.register_module()
class CribbingDetector(BaseDetector):
    """Returns the annotated objects of the first images, and nothing for the others.

    Args:
        num_found: How many images it finds the objects of.
    """

    def __init__(self, num_found: int) -> None:
        super().__init__()
        self.num_found = num_found
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def predict(self, inputs: Tensor, samples: SampleList) -> SampleList:
        """Copy the annotations of the first images."""
        for sample in samples:
            objects = sample.gt_instances
            if sample.img_id > self.num_found:
                objects = objects[:0]
            boxes = torch.as_tensor(objects.bboxes.tensor)
            sample.pred_instances = InstanceData(
                bboxes=boxes, labels=objects.labels, scores=torch.ones(len(boxes))
            )
        return samples

    def loss(self, inputs: Tensor, samples: SampleList) -> dict:
        """Nothing can be trained."""
        raise NotImplementedError

    def _forward(self, inputs: Tensor, samples: SampleList) -> None:
        raise NotImplementedError

    def extract_feat(self, inputs: Tensor) -> None:
        """There are no features."""
        raise NotImplementedError


@pytest.fixture
def data(tmp_path: Path) -> Config:
    """A config with four images of a crack and a pore each, both of them small."""
    write_coco(tmp_path, make_coco(NUM_IMAGES), 'val.json')
    return whole_config(tiny_dino_cfg(), tmp_path)


def crib(data: Config, num_found: int, folder: Path, max_images: int | None = None) -> Accuracy:
    """AP of a detector that knows the objects of some images."""
    cfg = Config(dict(model=ConfigDict(type='CribbingDetector', num_found=num_found)))
    evaluation = prepare_evaluation(cfg, data, 'val', folder / 'logs', max_images)
    assert evaluation.num_images == (max_images or NUM_IMAGES)
    assert evaluation.num_classes == 2
    weights = folder / 'weights.pth'
    torch.save(dict(state_dict={}), weights)
    seen: list[int] = []
    accuracy = measure_accuracy(evaluation, str(weights), seen.append)
    assert sum(seen) == evaluation.num_images
    return accuracy


def test_all_objects_are_ap_1(data: Config, tmp_path: Path) -> None:
    """A size without objects has no AP."""
    assert crib(data, NUM_IMAGES, tmp_path) == Accuracy(1.0, 1.0, 1.0, None, None)


def test_first_images_only(data: Config, tmp_path: Path) -> None:
    """Objects of images that were left out are not missed, and the data set stays as it is."""
    ann_file = tmp_path / 'val.json'
    before = ann_file.read_text()
    half = crib(data, 2, tmp_path)
    assert 0.4 < half.ap < 0.6
    assert crib(data, 2, tmp_path, max_images=2).ap == 1.0
    assert ann_file.read_text() == before


def test_nothing_found_is_ap_0(data: Config, tmp_path: Path) -> None:
    """COCO's code fails at a result without boxes; here it is an AP of 0."""
    assert crib(data, 0, tmp_path).ap == 0


def test_model_of_other_classes(data: Config, tmp_path: Path) -> None:
    """A model with as many classes as the data lacks is refused before anything is measured."""
    cfg = whole_config(tiny_dino_cfg(num_classes=7))
    with pytest.raises(ValueError, match='num_classes=7'):
        prepare_evaluation(cfg, data, 'val', tmp_path / 'logs')


def test_split_without_data(data: Config, tmp_path: Path) -> None:
    """The message names the option that helps."""
    with pytest.raises(ValueError, match='--split'):
        prepare_evaluation(data, data, 'test', tmp_path / 'logs')


def test_missing_annotations(tmp_path: Path) -> None:
    """A data set that is not there is named, with first images or without."""
    cfg = whole_config(tiny_dino_cfg(), tmp_path / 'none')
    for max_images in (None, 2):
        with pytest.raises(FileNotFoundError, match=r'val\.json'):
            prepare_evaluation(cfg, cfg, 'val', tmp_path / 'logs', max_images)
