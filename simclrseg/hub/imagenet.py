"""The ImageNet weights that segmentation-models-pytorch and timm publish.

These are their own settings, which a test compares: reading them from the libraries would import torch.
"""

from typing import TypedDict

TIMM_PREFIX = "tu-"
"""Encoders of timm, which says what it publishes for them."""


class TimmWeights(TypedDict):
    """A repository of ``timm/`` and what it says of itself."""

    repo: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str


TIMM: dict[str, TimmWeights] = {
    "vit_b_16": {
        "repo": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "licence": "apache-2.0",
    },
}
"""Encoders of ours that are timm's under another name."""

# encoder -> commit of smp-hub/<encoder>.imagenet
IMAGENET: dict[str, str] = {
    "resnet18": "3f2325ff978283d47aa6a1d6878ca20565622683",
    "resnet34": "7a57b34f723329ff020b3f8bc41771163c519d0c",
    "resnet50": "00cb74e366966d59cd9a35af57e618af9f88efe9",
    "resnet101": "cd7c15e8c51da86ae6a084515fdb962d0c94e7d1",
    "resnet152": "951dd835e9d086628e447b484584c8983f9e1dd0",
    "resnext50_32x4d": "329793c85d62fd340ae42ae39fb905a63df872e7",
    "resnext101_32x8d": "221af6198d03a4ee88992f78a1ee81b46a52d339",
    "dpn68": "c209aefdeae6bc93937556629e974b44d4e58535",
    "dpn98": "b2836c86216c1ddce980d832f7deaa4ca22babd3",
    "dpn131": "04bbb9f415ca2bb59f3d8227857967b74698515e",
    "vgg11": "ad8b90e1051c38fdbf399cf5016886a1be357390",
    "vgg11_bn": "59757f9215032c9f092977092d57d26a9df7fd9c",
    "vgg13": "1b70ff2580f101a8007a48b51e2b5d1e5925dc42",
    "vgg13_bn": "9be454515193af6612261b7614fe90607e27b143",
    "vgg16": "49d74b799006ee252b86e25acd6f1fd8ac9a99c1",
    "vgg16_bn": "2c186d02fb519e93219a99a1c2af6295aef0bf0d",
    "vgg19": "2853d00d7bca364dbb98be4d6afa347e5aeec1f6",
    "vgg19_bn": "f09a924cb0d201ea6f61601df9559141382271d7",
    "senet154": "249f45efc9881ba560a0c480128edbc34ab87e40",
    "se_resnet50": "e6b4bc2dc85226c3d3474544410724a485455459",
    "se_resnet101": "71fe95cc0a27f444cf83671f354de02dc741b18b",
    "se_resnet152": "e79fc3d9d76f197bd76a2593c2054edf1083fe32",
    "se_resnext50_32x4d": "73246406d879a2b0e3fdfe6fddd56347d38f38ae",
    "se_resnext101_32x4d": "18808a4276f46421d358a9de554e0b93c2795df4",
    "densenet121": "a17c96896a265b61338f66f61d3887b24f61995a",
    "densenet169": "8facfba9fc72f7750879dac9ac6ceb3ab990de8d",
    "densenet201": "ed5deb355d71659391d46fae5e7587460fbb5f84",
    "densenet161": "9afe0fec51ab2a627141769d97d6f83756d78446",
    "inceptionresnetv2": "120c5afdbb80a1c989db0a7423ebb7a9db9b1e6c",
    "inceptionv4": "918fb54f07811d82a4ecde3a51156041d0facba9",
    "efficientnet-b0": "1bbe7ecc1d5ea1d2058de1a2db063b8701aff314",
    "efficientnet-b1": "5d637466a5215de300a8ccb13a39357df2df2bf4",
    "efficientnet-b2": "a96d4f0295ffbae18ebba173bf7f3c0c8f21990e",
    "efficientnet-b3": "074c54a6c473e0d294690d49cedb6cf463e7127d",
    "efficientnet-b4": "05cd5dde5dab658f00c463f9b9aa0ced76784f40",
    "efficientnet-b5": "69f4d28460a4e421b7860bc26ee7d832e03e01ca",
    "efficientnet-b6": "8570752016f7c62ae149cffa058550fe44e21c8b",
    "efficientnet-b7": "5a5dbe687d612ebc3dca248274fd1191111deda6",
    "mobilenet_v2": "e67aa804e17f7b404b629127eabbd224c4e0690b",
    "xception": "01cfaf27c11353b1f0c578e7e26d2c000ea91049",
    "timm-efficientnet-b0": "8419e9cc19da0b68dcd7bb12f19b7c92407ad7c4",
    "timm-efficientnet-b1": "63bdd65ef6596ef24f1cadc7dd4f46b624442349",
    "timm-efficientnet-b2": "e693adb39d3cb3847e71e3700a0c2aa58072cff1",
    "timm-efficientnet-b3": "1666b835b5151d6bb2067c7cd67e67ada6c39edf",
    "timm-efficientnet-b4": "07868c28ab308f4de4cf1e7ec54b33b8b002ccdb",
    "timm-efficientnet-b5": "004153b4ddd93d30afd9bbf34329d7f57396d413",
    "timm-efficientnet-b6": "dbbf28a5c33f021486db4070de693caad6b56c3d",
    "timm-efficientnet-b7": "8ef7ffccf54dad9baceb21d05b7ef86b6b70f4cc",
    "timm-efficientnet-b8": "b5e9dde35605a3a6d17ea2a727382625f9066a37",
    "timm-tf_efficientnet_lite0": "f5729249af07e5d923fb8b16922256ce2865d108",
    "timm-tf_efficientnet_lite1": "7b5e3f8dbb0c13b74101773584bba7523721be72",
    "timm-tf_efficientnet_lite2": "cc5f6cd4c7409ebacc13292f09d369ae88547f6a",
    "timm-tf_efficientnet_lite3": "ab29c8402991591d66f813bbb1f061565d9b0cd0",
    "timm-tf_efficientnet_lite4": "91a822e0f03c255b34dfb7846d3858397e50ba39",
    "timm-skresnet18": "6c97652bb744d89177b68274d2fda3923a7d1f95",
    "timm-skresnet34": "2367796924a8182cc835ef6b5dc303917f923f99",
    "timm-skresnext50_32x4d": "50207e407cc4c6ea9e6872963db6844ca7b7b9de",
    "mit_b0": "9ce53d104d92d75aabb00aae70677aaab67e7c84",
    "mit_b1": "a04bf4f13a549bce677cf79b04852e7510782817",
    "mit_b2": "868ab6f13871dcf8c3d9f90ee4519403475b65ef",
    "mit_b3": "32558d12a65f1daa0ebcf4f4053c4285e2c1cbda",
    "mit_b4": "3a3454e900a4b4f11dd60eeb59101a9a1a36b017",
    "mit_b5": "ced04d96c586b6297fd59a7a1e244fc78fdb6531",
    "mobileone_s0": "f52815cf0ad29278a9860c9cd5fabf19f904bedf",
    "mobileone_s1": "5707a98852b762cd8e0c43b5c8c729cd28496677",
    "mobileone_s2": "ddc3db8fa40d271902c7a8c95cee6691f617d551",
    "mobileone_s3": "da89b84a91b7400c366c358bfbf8dd0b2fa4dde2",
    "mobileone_s4": "16197c55d599076b6aae67a83d3b3f70c31b097c",
}
