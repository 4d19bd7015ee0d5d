"""The supported encoders of texts, one record each. No torch is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmfuse.encoders.architectures import CLIP_PARTS, CLIP_ROLES, Known, Names, TextArchitecture

if TYPE_CHECKING:
    from torch import Tensor

BERT_ROLES: dict[str, tuple[Names, ...]] = {
    "q": (("attention.self.query",), ("attention.attn.q",)),
    "k": (("attention.self.key",), ("attention.attn.k",)),
    "v": (("attention.self.value",), ("attention.attn.v",)),
    "o": (("attention.output.dense",), ("attention.attn.o",)),
    "fc1": (("intermediate.dense",),),
    "fc2": (("output.dense",),),
}
BERT_PARTS: dict[str, str | Names] = {
    "attention": "attention.self",
    "attention_output": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "mlp": ("intermediate", "output.dense"),
    "norm2": "output.LayerNorm",
}


def _bert_words(embeddings: Any, words: Tensor) -> Tensor:
    """Words (C, S, D) with their positions, and the kind of token that single texts consist of, normed."""
    padding = getattr(embeddings, "padding_idx", None)  # behind which RoBERTa and MPNet begin to count
    first = 0 if padding is None else padding + 1
    tokens = words + embeddings.position_embeddings.weight[first : first + words.shape[1]]
    kinds = getattr(embeddings, "token_type_embeddings", None)
    return embeddings.LayerNorm(tokens if kinds is None else tokens + kinds.weight[0])


def _behind_padding(config: Any) -> int:
    return int(config.pad_token_id) + 1


def _mpnet_first(config: Any) -> int:
    return 2  # its padding has number 1, whatever its configuration says


def _mpnet_bias(model: Any, length: int) -> Tensor:
    weight = model.encoder.relative_attention_bias.weight
    return model.encoder.compute_position_bias(weight.new_empty(1, length))


_BERT: dict[str, Any] = {
    # A pooler that is not read: without it, a checkpoint that lacks one gets no random weights in its place.
    "options": {"add_pooling_layer": False},
    "layers": ("encoder.layer",),
    "final_norm": "",
    "post_norm": True,
    "parts": BERT_PARTS,
    "roles": BERT_ROLES,
    "embeddings": "embeddings",
    "words": "word_embeddings",
    "embed": _bert_words,
    "sees": "text",
    "start_tokens": 1,
    "projection": "",
    "projection_width": "hidden_size",
}
RECORDS = (
    TextArchitecture(
        model_type="clip_text_model",
        family="CLIP",
        known=(Known("openai/clip-vit-base-patch16"),),
        model_class="CLIPTextModelWithProjection",
        checkpoints=("clip", "clip_text_model"),
        layers=("text_model.encoder.layers",),
        final_norm="text_model.final_layer_norm",
        parts=CLIP_PARTS,
        roles=CLIP_ROLES,
        readout=("text_projection",),
        embeddings="text_model.embeddings",
        sees="before",
        start_tokens=1,
        projection="text_projection",
        projection_width="projection_dim",
    ),
    TextArchitecture(
        model_type="siglip_text_model",
        family="SigLIP, SigLIP 2",
        known=(Known("google/siglip2-base-patch16-224", licence="apache-2.0"),),
        model_class="SiglipTextModel",
        checkpoints=("siglip", "siglip_text_model"),
        layers=("encoder.layers",),
        final_norm="final_layer_norm",
        parts=CLIP_PARTS,
        roles=CLIP_ROLES,
        readout=("head",),
        embeddings="embeddings",
        sees="all",
        start_tokens=0,
        lowercase=True,
        revision=1,
        projection="head",
        projection_width="projection_size",
    ),
    TextArchitecture(
        model_type="metaclip_2_text_model",
        family="MetaCLIP 2",
        known=(Known("facebook/metaclip-2-worldwide-huge-quickgelu"),),
        model_class="MetaClip2TextModelWithProjection",
        checkpoints=("metaclip_2", "metaclip_2_text_model"),
        layers=("text_model.encoder.layers",),
        final_norm="text_model.final_layer_norm",
        parts=CLIP_PARTS,
        roles=CLIP_ROLES,
        readout=("text_projection",),
        embeddings="text_model.embeddings",
        sees="before",
        start_tokens=1,
        projection="text_projection",
        projection_width="projection_dim",
    ),
    TextArchitecture(
        model_type="siglip2_text_model",
        family="SigLIP 2 NaFlex",
        known=(Known("google/siglip2-base-patch16-naflex"),),
        model_class="Siglip2TextModel",
        checkpoints=("siglip2", "siglip2_text_model"),
        layers=("encoder.layers",),
        final_norm="final_layer_norm",
        parts=CLIP_PARTS,
        roles=CLIP_ROLES,
        readout=("head",),
        embeddings="embeddings",
        sees="all",
        start_tokens=0,
        lowercase=True,
        projection="head",
        projection_width="projection_size",
    ),
    TextArchitecture(
        model_type="bert",
        family="BERT",
        known=(Known("sentence-transformers/all-MiniLM-L6-v2", licence="apache-2.0"),),
        model_class="BertModel",
        checkpoints=("bert",),
        **_BERT,
    ),
    TextArchitecture(
        model_type="roberta",
        family="RoBERTa",
        known=(Known("sentence-transformers/all-distilroberta-v1"),),
        model_class="RobertaModel",
        checkpoints=("roberta",),
        first_position=_behind_padding,
        **_BERT,
    ),
    TextArchitecture(
        model_type="xlm-roberta",
        family="XLM-RoBERTa",
        known=(Known("intfloat/multilingual-e5-base"),),
        model_class="XLMRobertaModel",
        checkpoints=("xlm-roberta",),
        first_position=_behind_padding,
        **_BERT,
    ),
    TextArchitecture(
        model_type="mpnet",
        family="MPNet",
        known=(Known("sentence-transformers/all-mpnet-base-v2"),),
        model_class="MPNetModel",
        checkpoints=("mpnet",),
        first_position=_mpnet_first,
        bias=_mpnet_bias,
        **{
            **_BERT,
            "options": {"add_pooling_layer": False, "attn_implementation": "eager"},
            "parts": {
                "attention": "attention.attn",
                "norm1": "attention.LayerNorm",
                "mlp": ("intermediate", "output.dense"),
                "norm2": "output.LayerNorm",
            },
        },
    ),
)
