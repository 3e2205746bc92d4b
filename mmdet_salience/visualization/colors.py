"""Colours of figures and pages: Okabe and Ito's, which colour-blind people can tell apart."""

SKY_BLUE = '#56B4E9'
VERMILLION = '#D55E00'
YELLOW = '#F0E442'
WHITE = '#FFFFFF'
BLACK = '#000000'

# Detections that found an object, those that found none, and objects that none found.
FOUND, FALSE, MISSED = SKY_BLUE, VERMILLION, YELLOW
OBJECT = WHITE

# Queries that redundancy removal leaves, those it removes, and those that take their places.
KEPT, REMOVED, ADDED = SKY_BLUE, VERMILLION, YELLOW

# Perceptually uniform colormaps: of salience, and of the number of encoder layers. Cividis would
# vanish on grey images.
SALIENCE_MAP = 'viridis'
LAYER_MAP = 'viridis'
