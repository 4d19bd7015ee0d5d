"""Small towers with random weights, at real structure, for tests of the model side."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn

from mmfuse.encoders import ImageTower, TextTower, VideoTower

SIZE = 32
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": 8,
}
IMAGE_CONFIGS: dict[str, Any] = {
    "dinov2": lambda: transformers.Dinov2Config(mlp_ratio=2, layerscale_value=0.5, **SMALL),
    "dinov2-swiglu": lambda: transformers.Dinov2Config(mlp_ratio=2, use_swiglu_ffn=True, layerscale_value=0.5, **SMALL),
    "dinov2-registers": lambda: transformers.Dinov2WithRegistersConfig(mlp_ratio=2, num_register_tokens=3, **SMALL),
    "dinov3": lambda: transformers.DINOv3ViTConfig(
        intermediate_size=64, num_register_tokens=3, layerscale_value=0.5, **SMALL
    ),
    "dinov3-gated": lambda: transformers.DINOv3ViTConfig(
        intermediate_size=64, num_register_tokens=3, layerscale_value=0.5, use_gated_mlp=True, key_bias=True, **SMALL
    ),
    "clip-image": lambda: transformers.CLIPVisionConfig(intermediate_size=64, **SMALL),
    "siglip-image": lambda: transformers.SiglipVisionConfig(intermediate_size=64, **SMALL),
    "vit": lambda: transformers.ViTConfig(intermediate_size=64, **SMALL),
}
MORE_IMAGE_CONFIGS: dict[str, Any] = {
    "metaclip2-image": lambda: transformers.MetaClip2VisionConfig(intermediate_size=64, **SMALL),
    "siglip2-image": lambda: transformers.Siglip2VisionConfig(
        intermediate_size=64, num_patches=16, **{key: value for key, value in SMALL.items() if key != "image_size"}
    ),
    "aimv2": lambda: transformers.Aimv2VisionConfig(intermediate_size=64, **SMALL),
    "aimv2-native": lambda: transformers.Aimv2VisionConfig(
        intermediate_size=64, is_native=True, use_head=False, **SMALL
    ),
    "tipsv2": lambda: transformers.Tipsv2VisionConfig(
        mlp_ratio=2, layerscale_value=0.5, num_register_tokens=2, **SMALL
    ),
    "radio": lambda: transformers.RadioConfig(
        mlp_ratio=2.0, max_img_size=64, num_cls_tokens=3, num_registers=2, summary_idxs=[0, 2], **SMALL
    ),
}
MORE_IMAGE_KINDS = list(MORE_IMAGE_CONFIGS)
"""Of which the layers are those of others, so that not every method is tried on them."""
IMAGE_CLASSES = {
    "metaclip2-image": transformers.MetaClip2VisionModel,
    "siglip2-image": transformers.Siglip2VisionModel,
    "aimv2": transformers.Aimv2VisionModel,
    "aimv2-native": transformers.Aimv2VisionModel,
    "tipsv2": transformers.Tipsv2VisionModel,
    "radio": transformers.RadioModel,
    "dinov2": transformers.Dinov2Model,
    "dinov2-swiglu": transformers.Dinov2Model,
    "dinov2-registers": transformers.Dinov2WithRegistersModel,
    "dinov3": transformers.DINOv3ViTModel,
    "dinov3-gated": transformers.DINOv3ViTModel,
    "clip-image": transformers.CLIPVisionModel,
    "siglip-image": transformers.SiglipVisionModel,
    "vit": transformers.ViTModel,
}
VIDEO: dict[str, Any] = {"num_frames": 4, "tubelet_size": 2, "intermediate_size": 64, **SMALL}
VIDEO_CONFIGS: dict[str, Any] = {
    "vjepa2": lambda: transformers.VJEPA2Config(
        **{key: value for key, value in SMALL.items() if key != "image_size"},
        crop_size=SIZE,
        frames_per_clip=4,
        mlp_ratio=2,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    ),
    "videomae": lambda: transformers.VideoMAEConfig(use_mean_pooling=False, **VIDEO),
    "vivit": lambda: transformers.VivitConfig(
        **{key: value for key, value in VIDEO.items() if key != "patch_size"} | {"tubelet_size": [2, 8, 8]}
    ),
}
VIDEO_CLASSES = {
    "vjepa2": transformers.VJEPA2Model,
    "videomae": transformers.VideoMAEModel,
    "vivit": partial(transformers.VivitModel, add_pooling_layer=False),
}
IMAGE_KINDS = list(IMAGE_CONFIGS)
VIDEO_KINDS = list(VIDEO_CONFIGS)
"""Of encoders of whole clips, which adapt and are read out as image towers do."""
TEXT_KINDS = ["clip-text", "siglip-text", "bert"]
MORE_TEXT_KINDS = ["roberta", "mpnet", "metaclip2-text", "siglip2-text"]
"""Of which the layers are those of others, so that not every method is tried on them."""
TEXT_CLASSES: dict[str, Any] = {
    "clip-text": (transformers.CLIPTextModelWithProjection, transformers.CLIPTextConfig),
    "metaclip2-text": (transformers.MetaClip2TextModelWithProjection, transformers.MetaClip2TextConfig),
    "siglip-text": (transformers.SiglipTextModel, transformers.SiglipTextConfig),
    "siglip2-text": (transformers.Siglip2TextModel, transformers.Siglip2TextConfig),
    "bert": (partial(transformers.BertModel, add_pooling_layer=False), transformers.BertConfig),
    "roberta": (partial(transformers.RobertaModel, add_pooling_layer=False), transformers.RobertaConfig),
    "mpnet": (partial(transformers.MPNetModel, add_pooling_layer=False), transformers.MPNetConfig),
}
PHRASES = ["moving to the left", "moving to the right", "turning around", "growing", "playing the cello"]


def image_model(kind: str, *, seed: int = 0) -> Any:
    """A small image model with random weights; every parameter is random, so that nothing is a no-op by chance."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return randomised(
            {**IMAGE_CLASSES, **VIDEO_CLASSES}[kind]({**IMAGE_CONFIGS, **MORE_IMAGE_CONFIGS, **VIDEO_CONFIGS}[kind]())
        ).eval()


def image_tower(kind: str = "dinov2", *, seed: int = 0) -> ImageTower:
    """`image_model` as a tower."""
    tower = VideoTower if kind in VIDEO_KINDS else ImageTower
    return tower(image_model(kind, seed=seed), name=kind, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def text_tower(kind: str = "clip-text", *, seed: int = 0) -> TextTower:
    """A small text tower with random weights and a byte-level BPE tokenizer."""
    tokenizer = text_tokenizer(kind)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 32,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        build, config = TEXT_CLASSES[kind]
        if kind.startswith("siglip"):
            shape["projection_size"] = 24
        elif kind.endswith("text"):
            shape["projection_dim"] = 24
        else:
            shape["pad_token_id"] = 1  # as in RoBERTa and MPNet
        model = build(config(**shape))
        return TextTower(randomised(model).eval(), tokenizer=tokenizer, name=kind)


def text_tokenizer(kind: str) -> Any:
    """A tokenizer that adds what the architecture expects: start and end in CLIP, the end alone in SigLIP."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[start, end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*PHRASES, "a video of a person."], trainer)
    single = f"$A {end}" if kind.startswith("siglip") else f"{start} $A {end}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(token, tokenizer.token_to_id(token)) for token in (start, end)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=start, eos_token=end, pad_token=end, model_max_length=32
    )


def randomised(model: nn.Module) -> Any:
    """Give every parameter, those that start at zero or one included, a random value."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def save_in_hub_layout(tower: ImageTower | TextTower, folder: Path) -> Path:
    """Write a tower as the hub lays it out."""
    tower.model.save_pretrained(folder)
    if isinstance(tower, TextTower):
        tower.tokenizer.save_pretrained(folder)
    return folder


def clips(count: int = 3, frames: int = 4, *, seed: int = 0) -> torch.Tensor:
    """Random pixels, uint8 (count, frames, 3, SIZE, SIZE)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, frames, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def save_whole_model(kind: str, folder: Path) -> Path:
    """Write a small CLIP or SigLIP with random weights, both towers in one checkpoint, as the hub lays it out."""
    tokenizer = text_tokenizer(f"{kind}-text")
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {**shape, **special, "vocab_size": len(tokenizer), "max_position_embeddings": 32}
    image = {**SMALL, "intermediate_size": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "clip":
            both = [{**part, "projection_dim": 24} for part in (text, image)]
            config: Any = transformers.CLIPConfig(text_config=both[0], vision_config=both[1], projection_dim=24)
            model: Any = transformers.CLIPModel(config)
        else:
            config = transformers.SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=image)
            model = transformers.SiglipModel(config)
        randomised(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
