"""How fast photos become masks, and in how much memory: against torch + smp, against a loop, against a picture's size.

Run it on a quiet machine: ``python -m tests.benchmarks.predict``. The weights are random: the work is the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tests.benchmarks._common import interleave, machine, make_jpegs, print_table

PLAIN = """
import sys
import numpy as np, torch
import segmentation_models_pytorch as smp
from PIL import Image, ImageOps
weights, photo, mask, side = *sys.argv[1:4], int(sys.argv[4])
network = smp.Unet("resnet18", encoder_weights=None, classes=1)
network.load_state_dict(torch.load(weights))
network.eval()
picture = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
image = np.asarray(picture.resize((side, side)), np.float32) / 255
image = (image - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
with torch.inference_mode():
    found = torch.sigmoid(network(torch.from_numpy(image).permute(2, 0, 1)[None]))[0, 0]
small = Image.fromarray((255 * (found > 0.5)).to(torch.uint8).numpy())
small.resize(picture.size, Image.Resampling.NEAREST).save(mask)
"""


def make_model(folder: Path, side: int) -> tuple[Path, Path]:
    """A ResNet-18 U-Net with random weights, as ONNX and for torch."""
    import segmentation_models_pytorch as smp
    import torch

    from simclrseg.exporters.onnx import export_onnx
    from simclrseg.metadata import ModelMetadata

    network = smp.Unet("resnet18", encoder_weights=None, classes=1).eval()
    classes = ("background", "pet")
    metadata = ModelMetadata(
        task="segmentation", encoder="resnet18", decoder="unet", image_size=side, classes=classes, threshold=0.5
    )
    torch.save(network.state_dict(), folder / "weights.pt")
    export_onnx(network, folder / "model.onnx", metadata)
    return folder / "model.onnx", folder / "weights.pt"


def process(*command: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *command], check=True, capture_output=True)


def single(model: Path, weights: Path, photo: Path, folder: Path, *, side: int, rounds: int) -> None:
    (folder / "plain.py").write_text(PLAIN)
    mask = str(folder / "mask.png")
    ours = ("-m", "simclrseg", "predict", str(photo), "-o", mask, "-m", str(model), "--overwrite", "--device", "cpu")
    variants = {
        "torch + smp": process(str(folder / "plain.py"), str(weights), str(photo), mask, str(side)),
        "simclrseg predict": process(*ours),
    }
    timings = interleave(variants, rounds=rounds, threads=os.cpu_count() or 1)
    print(f"\none photo, ResNet-18 U-Net at {side} px, whole process")
    rows = [
        [name, f"{1000 * timings.median(name):.0f}", f"{timings.ratio(name, 'torch + smp'):.1f}x"] for name in variants
    ]
    print_table(["variant", "median, ms", "faster"], rows)
    print(timings.note())


def folder_of_photos(model: Path, photos: list[Path], folder: Path, *, rounds: int) -> None:
    """Both in this process and with a session of their own; the loop's has all cores for each photo."""
    from simclrseg.commands.predict import predict
    from simclrseg.config.predict import PredictConfig
    from simclrseg.images.decode import read_image
    from simclrseg.images.resizing import resize_image
    from simclrseg.inference.session import open_model
    from simclrseg.inference.tiling import to_mask, to_size
    from simclrseg.system.files import replacing

    config = PredictConfig.model_validate(
        {
            "input": {"inputs": [str(photos[0].parent)], "model": str(model)},
            "hardware": {"device": "cpu"},
            "console": {"output": str(folder / "masks"), "overwrite": True},
        }
    )
    cores = len(os.sched_getaffinity(0))
    (folder / "loop").mkdir(exist_ok=True)

    def loop() -> None:
        cv2.setNumThreads(cores)
        opened = open_model(model, "cpu", threads=cores)
        side = opened.metadata.image_size
        for photo in photos:
            image = read_image(photo)
            found = opened.run(np.ascontiguousarray(resize_image(image, (side, side)))[None])[0]
            mask = to_mask(to_size(found, image.shape[:2]), opened.metadata.threshold)
            with replacing(folder / "loop" / f"{photo.stem}.png") as target:  # whole or not at all, as `predict` does
                cv2.imwrite(str(target), mask * 255)

    timings = interleave({"a loop": loop, "predict": lambda: predict(config)}, rounds=rounds, threads=cores)
    print(f"\n{len(photos)} photos, ResNet-18 U-Net, {cores} cores")
    rows = [
        [name, f"{len(photos) / timings.median(name):.1f}", f"{timings.ratio(name, 'a loop'):.2f}x"]
        for name in timings.seconds
    ]
    print_table(["variant", "images/s", "faster"], rows)
    print(timings.note())


def memory(model: Path, folder: Path, *, size: int) -> None:
    picture = folder / "large.jpg"
    image = cv2.resize(cv2.imread(str(make_jpegs(folder, 1)[0])), (size, size), interpolation=cv2.INTER_CUBIC)
    decoded = image.nbytes / 1e6
    cv2.imwrite(str(picture), image)
    cv2.imwrite(str(picture.with_suffix(".png")), image)
    del image
    rows = []
    cases: dict[str, list[str]] = {".jpg": [], ".png": [], ".jpg, --tile 512": ["--tile", "512", "--overlap", "0"]}
    for name, options in cases.items():
        source = str(picture.with_suffix(name.partition(",")[0]))
        arguments = ["predict", source, "-o", str(folder / "mask.png"), "-m", str(model), "--overwrite", *options]
        # a small process of its own between: a child's peak begins with the memory of who forked it
        code = (
            "import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL); "
            "print(os.wait4(p.pid, 0)[2].ru_maxrss)"
        )
        command = [sys.executable, "-c", code, sys.executable, "-m", "simclrseg", *arguments, "-q", "--device", "cpu"]
        peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) * 1024 / 1e6
        rows.append([name, f"{peak:.0f}", f"{decoded:.0f}", f"{peak - decoded:.0f}"])
    print(f"\nmemory for a picture of {size} x {size}")
    print_table(["file", "peak, MB", "decoded, MB", "beyond it, MB"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--large", type=int, default=12_000, help="side of the large picture")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, weights = make_model(folder, arguments.side)
        (folder / "photos").mkdir()
        photos = make_jpegs(folder / "photos", arguments.photos)
        print(machine())
        single(model, weights, photos[0], folder, side=arguments.side, rounds=arguments.rounds)
        folder_of_photos(model, photos, folder, rounds=arguments.rounds)
        memory(model, folder, size=arguments.large)


if __name__ == "__main__":
    main()
