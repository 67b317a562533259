"""SSD300 on VGG16 with 21 classes on a CPU, images (8, 3, 300, 300) to offsets and logits, forward and with backward.

ssdedu runs as `ssdedu train` and `ssdedu detect` run it: uint8 images, channels last in memory, mean subtracted
inside, precision "auto", which takes bfloat16 where the processor has units for it. Where it does, float32 is measured
too: it is what other machines do, with Winograd's convolutions (`ssdedu.winograd`). The others are given float images,
the mean subtracted, and run as their repositories do, in float32 with channels first:

torchvision: backbone and head of `ssd300_vgg16`, without GeneralizedRCNNTransform. ssdedu has the same weights, and the
facts say how far its outputs are from torchvision's.
amdegroot/ssd.pytorch: `build_ssd("train", 300, 21)`.
lufficc/SSD: `VGG` and `SSDBoxPredictor`, of which its SSDDetector consists. Mended from outside: torch.hub has no
`_download_url_to_file` any more, which it imports.
sgrvinod/a-PyTorch-Tutorial-to-Object-Detection: `SSD300`, without the download of VGG16.

Forward: torch.inference_mode. With backward: from no gradient, and from given gradients of offsets and logits.
limit: products of large matrices, in ssdedu's precision, with as many multiplications as the convolutions by their
definition have, 0.5 TFLOP forward and three times that with backward.

0.25 of torchvision's time, the goal where there are units for bfloat16, needs units much faster than those for float32,
as Intel's AMX are. AVX-512 BF16 alone doubles the pace (on AMD's Zen 4 from 0.11 to 0.23 TFLOP/s a core), so that the
multiplications alone take 2.2 of torchvision's 6.0 s forward and 6.6 of its 17.8 s with backward. Profile there, in CPU
time on one thread: forward 2.5 s, of which convolutions 2.3, pooling, ReLU and conversions 0.1, new pages of memory
0.1; with backward 7.3 s, of which convolutions 6.8. Winograd does not help bfloat16: outputs of F(4 x 4) are 8 % off,
and F(2 x 2) takes 0.7 to 1.0 of the time of the definition, layer by layer, with nearly twice its rounding error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from bench import Contest, Goal, main
from peers import AMDEGROOT, LUFFICC, SGRVINOD, Absent, Peers
from timing import Work
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssdedu import weights
from ssdedu.model import SSD, fit_config
from ssdedu.precision import Precision, autocast, forward_dtype
from ssdedu.priors import SHAPES128, SSD300_VOC
from ssdedu.train import build

TORCHVISION = "torchvision"
CPU = torch.device("cpu")
CLASSES, PX = 21, 300
_SIDE = 4096  # of the limit's square matrix

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]


class Network(NamedTuple):
    """Parameters, and what gives offsets (B, P, 4) and logits (B, P, C) of images (B, 3, H, W)."""

    parameters: list[nn.Parameter]
    forward: Forward


def make(peers: Peers, tiny: bool) -> list[Contest]:
    """Each precision forward and with backward; on one thread with all peers, on two with torchvision."""
    images = draw(1 if tiny else 8)
    model = small() if tiny else ours(peers)
    others = {
        TORCHVISION: torchvision(peers),
        AMDEGROOT: amdegroot(peers),
        LUFFICC: lufficc(peers),
        SGRVINOD: sgrvinod(peers),
    }
    first = {TORCHVISION: others[TORCHVISION]}
    return [
        _contest(
            model, images, others if (precision, threads) == ("auto", 1) else first, precision, run, threads
        )
        for threads in (1, 2)
        for precision in precisions()
        for run in (forward, backward)
    ]


def _contest(
    model: SSD,
    images: Tensor,
    others: Mapping[str, Network | Absent],
    precision: Precision,
    run: Callable[[Network, Tensor], None],
    threads: int,
) -> Contest:
    passes = "forward" if run is forward else "forward and backward"
    name = f"{model.config.name} on {model.base_name}, {passes}, batch {len(images)}, {precision}"
    theirs = images.float().contiguous() - model.mean
    flops = count(model)
    return Contest(
        f"{name}, two threads" if threads == 2 else name,
        partial(run, network(model, precision), images),
        {n: w if isinstance(w, Absent) else partial(run, w, theirs) for n, w in others.items()},
        Goal(goal(precision), TORCHVISION) if model.base_name == "vgg16" else None,
        products(flops * len(images), precision, 1 if run is forward else 3),
        threads,
        partial(facts, model, precision, flops, others[TORCHVISION], images[:1]),
    )


def precisions() -> list[Precision]:
    """What is chosen, and float32 where that is another one."""
    return ["auto", "float32"] if forward_dtype(CPU, "auto") != torch.float32 else ["auto"]


def goal(precision: Precision) -> float:
    """Where there are units for bfloat16, and elsewhere."""
    return 0.8 if forward_dtype(CPU, precision) == torch.float32 else 0.25


def draw(batch: int) -> Tensor:
    """Random images (B, 3, H, W) uint8, channels last in memory."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch, PX, PX, 3), dtype=torch.uint8, generator=generator)
    return pixels.permute(0, 3, 1, 2)


def ours(peers: Peers) -> SSD:
    """SSD300 with the weights of torchvision's, if that is there."""
    net = _torchvision(peers)
    if isinstance(net, Absent):
        return build(lambda: SSD(SSD300_VOC, CLASSES), 0)
    return weights.load(net.state_dict(), config=SSD300_VOC).model


def small() -> SSD:
    """A net that takes the same images in a moment."""
    return build(lambda: SSD(fit_config(SHAPES128, PX, PX, "small"), CLASSES, "small"), 0)


def network(model: SSD, precision: Precision) -> Network:
    """The model within the package's mixed precision."""

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(CPU, precision):
            return model(images)

    return Network(list(model.parameters()), run)


def forward(net: Network, images: Tensor) -> None:
    """As in detection."""
    with torch.inference_mode():
        net.forward(images)


def backward(net: Network, images: Tensor) -> None:
    """A step of training but for loss and optimizer: forward, and the parameters' gradients from given ones."""
    for parameter in net.parameters:
        parameter.grad = None
    outputs = net.forward(images)
    torch.autograd.backward(outputs, [torch.full_like(o, 1e-3) for o in outputs])


@cache
def count(model: SSD) -> float:
    """Floating-point operations of one image's forward pass, by the definition of its convolutions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(draw(1))
    return counter.get_total_flops()


def products(flops: float, precision: Precision, times: int) -> Work:
    """So many times so many operations, as products of matrices."""
    dtype = forward_dtype(CPU, precision)
    rows, square = (torch.zeros(n, _SIDE, dtype=dtype) for n in (max(1, round(flops / 2 / _SIDE**2)), _SIDE))
    return lambda: [rows @ square for _ in range(times)]


def facts(
    model: SSD, precision: Precision, flops: float, peer: Network | Absent, images: Tensor
) -> dict[str, Any]:
    """The precision, the operations of an image, and the distance from torchvision's outputs over their spread."""
    about = {"dtype": str(forward_dtype(CPU, precision)), "GFLOP an image": round(flops / 1e9, 2)}
    if isinstance(peer, Absent):
        return about
    with torch.inference_mode():
        found = network(model, precision).forward(images)
        wanted = peer.forward(images.float().contiguous() - model.mean)
    if any(a.shape != b.shape for a, b in zip(found, wanted, strict=True)):
        return about
    off = {
        name: float(f"{((a - b).abs().max() / b.std()).item():.2g}")
        for name, a, b in zip(("offsets", "logits"), found, wanted, strict=True)
    }
    return {**about, "farthest from torchvision, in standard deviations": off}


def torchvision(peers: Peers) -> Network | Absent:
    """Backbone and head of its SSD300."""
    net = _torchvision(peers)
    if isinstance(net, Absent):
        return net

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        found = net.head(list(net.backbone(images).values()))
        return found["bbox_regression"], found["cls_logits"]

    return Network(list(net.parameters()), run)


def _torchvision(peers: Peers) -> Any | Absent:
    """The same weights each time."""
    detection = peers.package("torchvision.models.detection", version_of="torchvision")
    if isinstance(detection, Absent):
        return detection
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES)


def amdegroot(peers: Peers) -> Network | Absent:
    """Its network, which ends before `Detect` in the phase "train"."""
    found = peers.port(AMDEGROOT, "ssd")
    if isinstance(found, Absent):
        return found
    net = found[0].build_ssd("train", PX, CLASSES)
    return Network(list(net.parameters()), lambda images: net(images)[:2])


def lufficc(peers: Peers) -> Network | Absent:
    """Its base and its predictor, by the numbers of its configs/vgg_ssd300_voc0712.yaml."""
    if not hasattr(torch.hub, "_download_url_to_file"):
        torch.hub._download_url_to_file = torch.hub.download_url_to_file
    found = peers.port(LUFFICC, "ssd.modeling.backbone.vgg", "ssd.modeling.box_head.box_predictor")
    if isinstance(found, Absent):
        return found
    priors = SimpleNamespace(BOXES_PER_LOCATION=[m.boxes_per_cell for m in SSD300_VOC.maps])
    backbone = SimpleNamespace(OUT_CHANNELS=(512, 1024, 512, 256, 256, 256))
    model = SimpleNamespace(NUM_CLASSES=CLASSES, PRIORS=priors, BACKBONE=backbone)
    config = SimpleNamespace(INPUT=SimpleNamespace(IMAGE_SIZE=PX), MODEL=model)
    base, predictor = found[0].VGG(config), found[1].SSDBoxPredictor(config)

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        logits, offsets = predictor(base(images))
        return offsets, logits

    return Network([*base.parameters(), *predictor.parameters()], run)


def sgrvinod(peers: Peers) -> Network | Absent:
    """Its network with random weights."""
    found = peers.port(SGRVINOD, "model")
    if isinstance(found, Absent):
        return found
    found[0].VGGBase.load_pretrained_layers = lambda base: None
    net = found[0].SSD300(CLASSES)
    return Network(list(net.parameters()), net)


if __name__ == "__main__":
    main(__doc__, "network", make)
