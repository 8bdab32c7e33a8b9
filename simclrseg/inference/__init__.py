"""Outputs of `predict`. To add one: write its class in outputs.py, or maps.py, add its line."""

from simclrseg.registry import Registry

OUTPUTS = Registry(
    "output",
    {
        "mask": "simclrseg.inference.outputs:Mask",
        "indexed": "simclrseg.inference.outputs:Indexed",
        "overlay": "simclrseg.inference.outputs:Overlay",
        "cutout": "simclrseg.inference.outputs:Cutout",
        "probability": "simclrseg.inference.outputs:Probability",
        "uncertainty": "simclrseg.inference.outputs:Uncertainty",
        "json": "simclrseg.inference.outputs:Json",
        "geotiff": "simclrseg.inference.maps:GeoTiff",
        "geojson": "simclrseg.inference.maps:GeoJson",
        "coco": "simclrseg.inference.outputs:Coco",
        "yolo": "simclrseg.inference.outputs:Yolo",
        "labelme": "simclrseg.inference.outputs:LabelMe",
    },
)
