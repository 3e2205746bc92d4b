"""Import this before MMDetection in a tool: the package, which is silent as it imports that.

The checkout that the tool lies in comes before an installed package.
"""

import importlib
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]

if (CHECKOUT / 'mmdet_salience').is_dir():
    sys.path.insert(0, str(CHECKOUT))
importlib.import_module('mmdet_salience')
