"""Interactive explorers for the notebooks; each works on a page without a kernel too."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "CropExplorer": "crop_explorer",
    "IouExplorer": "iou_explorer",
    "NmsExplorer": "nms_explorer",
    "PrecisionRecallExplorer": "precision_recall_explorer",
    "PriorBoxExplorer": "prior_box_explorer",
    "ReceptiveFieldExplorer": "receptive_field_explorer",
    "ScoreExplorer": "score_explorer",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Import an explorer when it is asked for, and with it only what it needs."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
