"""Data sets: drawn scenes (`shapes`) and any folder in VOC's layout (`voc`); import the module you need."""
