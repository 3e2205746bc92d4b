"""Steps of data pipelines."""

from .load_checked_image import FaultPolicy, LoadCheckedImage

__all__ = ['FaultPolicy', 'LoadCheckedImage']
