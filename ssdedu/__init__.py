"""ssdedu: how SSD (Single Shot MultiBox Detector, arXiv 1512.02325) really works.

Import the module that carries the idea: ``from ssdedu import priors, boxes, matching``.
Nothing is imported here, so that ``import ssdedu`` stays fast.
"""

__version__ = "0.1.0"
