"""How fast an exported U-Net is on the CPU: ONNX Runtime against PyTorch, and int8 against float32.

Run it on a quiet machine: ``python -m tests.benchmarks.inference``. ``--run RUN`` takes the weights of a fine-tuned
run for int8 and prints by how much its IoU changes; random weights say nothing of that.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from simclrseg.commands.export import exported_run, images_for
from simclrseg.config.export import ExportConfig
from simclrseg.exporters.graphs import portable
from simclrseg.exporters.onnx import export_onnx
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.segmenters import build_unet, load_segmenter
from tests.benchmarks._common import Timings, interleave, machine, print_table, repeated

RUNS = 10  # of a sample


def described(encoder: str, side: int) -> ModelMetadata:
    return ModelMetadata(
        task="segmentation",
        encoder=encoder,
        decoder="unet",
        image_size=side,
        classes=("background", "pet"),
        threshold=0.5,
    )


def network(encoder: str) -> torch.nn.Module:
    """A U-Net of random weights whose batch norms have seen something."""
    torch.manual_seed(0)
    model = build_unet(build_backbone(encoder), encoder, 1).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 64, 64))
    return model.eval()


def in_torch(model: torch.nn.Module, metadata: ModelMetadata, image: np.ndarray) -> Callable[[], object]:
    """Eager, with the same work as the file: normalisation and threshold too."""
    deployed, batch = portable(model, metadata), torch.from_numpy(image)

    def run() -> None:
        with torch.inference_mode():
            deployed(batch)

    return run


def in_onnxruntime(path: Path, image: np.ndarray, threads: int) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": image})


def trained(arguments: argparse.Namespace, side: int) -> tuple[torch.nn.Module, ModelMetadata, dict]:
    """Network, metadata and photos of a run, brought to ``side``; a random ResNet-50 without one."""
    if arguments.run is None:
        photos = [np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8) for seed in range(16)]
        return network("resnet50"), described("resnet50", side), {"images": photos[:8], "calibration": photos[8:]}
    tree = {"model": {"run": arguments.run, "precision": "int8", "fixed_shape": (1, side, side)}}
    config = ExportConfig.model_validate(tree | {"console": {"runs": arguments.runs}})
    run = exported_run(config, backbones=False)
    model, metadata = load_segmenter(run.folder / "model.safetensors")
    found = images_for(config, run, metadata)
    photos = {"images": found.check, "truths": found.masks, "calibration": found.calibration}
    return model, metadata.model_copy(update={"image_size": side}), photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--side", type=int, default=512, help="of the pictures for int8, in pixels")
    parser.add_argument("--run", help="a fine-tuned ResNet-50, by name or folder")
    parser.add_argument("--runs", default="runs")
    arguments = parser.parse_args()
    threads = arguments.threads
    torch.set_num_threads(threads)
    print(f"{machine()}, ONNX Runtime {onnxruntime.__version__}, {threads} threads")
    generator = np.random.default_rng(0)
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for encoder in ("resnet18", "resnet50"):
            model, metadata = network(encoder), described(encoder, 256)
            export_onnx(model, folder / f"{encoder}.onnx", metadata)
            image = generator.integers(0, 256, (1, 256, 256, 3), np.uint8)
            variants = {
                "torch": in_torch(model, metadata, image),
                "onnx": in_onnxruntime(folder / f"{encoder}.onnx", image, threads),
            }
            timings = interleave(several(variants), rounds=arguments.rounds, threads=threads)
            rows.append(row(f"{encoder}, 256 px, against eager inference_mode", timings, "torch", "onnx"))
            notes.append(timings.note())
        side = arguments.side
        model, metadata, photos = trained(arguments, side)
        without = {key: value for key, value in photos.items() if key != "calibration"}
        tolerance = 0.999 if arguments.run is None else 0.005
        export_onnx(model, folder / "fp32.onnx", metadata, **without)
        found = export_onnx(model, folder / "int8.onnx", metadata, precision="int8", tolerance=tolerance, **photos)
        image = generator.integers(0, 256, (1, side, side, 3), np.uint8)
        files = {name: in_onnxruntime(folder / f"{name}.onnx", image, threads) for name in ("fp32", "int8")}
        timings = interleave(several(files), rounds=arguments.rounds, threads=threads)
        rows.append(row(f"{metadata.encoder}, {side} px, int8 against fp32", timings, "fp32", "int8"))
        notes.append(timings.note())
        notes.append(f"int8: {found}" if arguments.run else "int8: random weights, the IoU says nothing")
    print_table(["U-Net", "peer, ms", "ours, ms", "times faster"], rows)
    print("\n".join(notes))


def several(variants: dict[str, Callable[[], object]]) -> dict[str, Callable[[], None]]:
    return {name: repeated(run, RUNS) for name, run in variants.items()}


def row(name: str, timings: Timings, base: str, ours: str) -> list[str]:
    return [
        name,
        f"{1000 * timings.median(base) / RUNS:.1f}",
        f"{1000 * timings.median(ours) / RUNS:.1f}",
        f"{timings.ratio(ours, base):.2f}",
    ]


if __name__ == "__main__":
    main()
