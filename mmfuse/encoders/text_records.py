"""The supported encoders of texts, one record each. No torch is imported here."""

from __future__ import annotations

from mmfuse.encoders.architectures import CLIP_PARTS, CLIP_ROLES, TextArchitecture

RECORDS = (
    TextArchitecture(
        model_type="clip_text_model",
        family="CLIP",
        model_class="CLIPTextModelWithProjection",
        checkpoints=("clip", "clip_text_model"),
        layers=("text_model.encoder.layers",),
        final_norm="text_model.final_layer_norm",
        parts=CLIP_PARTS,
        roles=CLIP_ROLES,
        readout=("text_projection",),
        embeddings="text_model.embeddings",
        causal=True,
        start_tokens=1,
        projection="text_projection",
        projection_width="projection_dim",
    ),
    TextArchitecture(
        model_type="siglip_text_model",
        family="SigLIP, SigLIP 2",
        model_class="SiglipTextModel",
        checkpoints=("siglip", "siglip_text_model"),
        layers=("encoder.layers",),
        final_norm="final_layer_norm",
        parts=CLIP_PARTS,
        roles=CLIP_ROLES,
        readout=("head",),
        embeddings="embeddings",
        causal=False,
        start_tokens=0,
        projection="head",
        projection_width="projection_size",
    ),
)
