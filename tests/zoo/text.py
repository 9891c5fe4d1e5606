"""Small configurations of Hugging Face models, with random weights. Needs ``transformers``."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgeport.runtimes import Range

from .entry import Entry, Inputs, rows, sequences
from .vision import torchvision_models

_WORDS = 99

_SMALL: dict[str, Any] = {
    "vocab_size": _WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 37, "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip  # initial weights near 0.02 make attention nearly uniform


def _model(kind: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        if importlib.util.find_spec("torchvision"):
            torchvision_models()  # which transformers imports where it is installed
        transformers = importlib.import_module("transformers")
        built: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**options))
        return built.eval()

    return make


def _tokens(batch: int, time: int) -> Tensor:
    return torch.randint(3, _WORDS, (batch, time))


def _ids(batch: int, time: int) -> Inputs:
    return {"input_ids": _tokens(batch, time)}


def _masked(batch: int, time: int) -> Inputs:
    lengths = torch.randint(1, time + 1, (batch, 1))
    return {
        "input_ids": _tokens(batch, time),
        "attention_mask": (torch.arange(time) < lengths).long(),
    }


def _entry(make: Callable[[], nn.Module], draw: Callable[..., Inputs], **options: Any) -> Entry:
    defaults: dict[str, Any] = {
        "dimensions": sequences("input_ids"),
        "ranges": {"time": Range(1, 48)},
    }
    return Entry(make, draw, "text", needs=("transformers",), **defaults | options)


def _bart(batch: int, time: int, target: int) -> Inputs:
    return {
        "input_ids": _tokens(batch, time), "decoder_input_ids": _tokens(batch, target),
        "use_cache": False,
    }  # fmt: skip


_MASKED: dict[str, Any] = {
    "dimensions": sequences("input_ids", "attention_mask"),
    "real_samples": 3,
}
_IMAGE: dict[str, Any] = {"dimensions": rows("pixel_values"), "ranges": {}}
_T5: dict[str, Any] = {
    "vocab_size": _WORDS, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4,
}  # fmt: skip
_TARGET: dict[str, Any] = {
    "dimensions": {
        "input_ids": {0: "batch", 1: "time"},
        "decoder_input_ids": {0: "batch", 1: "target"},
    },
    "sizes": {"target": 5},
    "ranges": {"time": Range(1, 48), "target": Range(1, 48)},
}

ENTRIES: Mapping[str, Entry] = {
    "bert": _entry(_model("BertModel", "BertConfig", **_SMALL), _ids),
    "bert with mask": _entry(
        _model("BertForSequenceClassification", "BertConfig", **_SMALL), _masked, **_MASKED
    ),
    "gpt-2": _entry(
        _model(
            "GPT2LMHeadModel",
            "GPT2Config",
            vocab_size=_WORDS,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            initializer_range=0.3,
        ),
        lambda batch, time: _ids(batch, time) | {"use_cache": False},
    ),
    "gpt-2 with mask": _entry(
        _model(
            "GPT2Model",
            "GPT2Config",
            vocab_size=_WORDS,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            initializer_range=0.3,
        ),
        lambda batch, time: _masked(batch, time) | {"use_cache": False},
        **_MASKED,
    ),
    "distilbert": _entry(
        _model(
            "DistilBertModel",
            "DistilBertConfig",
            vocab_size=_WORDS,
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=37,
            max_position_embeddings=64,
            initializer_range=0.3,
        ),
        _ids,
    ),
    "roberta": _entry(_model("RobertaModel", "RobertaConfig", **_SMALL), _ids),
    "albert": _entry(_model("AlbertModel", "AlbertConfig", embedding_size=16, **_SMALL), _ids),
    "electra": _entry(
        _model("ElectraForTokenClassification", "ElectraConfig", embedding_size=16, **_SMALL), _ids
    ),
    "llama": _entry(
        _model("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=2, **_SMALL),
        lambda batch, time: _ids(batch, time) | {"use_cache": False},
    ),
    "t5 encoder": _entry(_model("T5EncoderModel", "T5Config", initializer_factor=1.0, **_T5), _ids),
    "t5": _entry(
        _model("T5ForConditionalGeneration", "T5Config", initializer_factor=1.0, **_T5),
        _bart,
        **_TARGET,
    ),
    "bart": _entry(
        _model(
            "BartModel",
            "BartConfig",
            vocab_size=_WORDS,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=37,
            decoder_ffn_dim=37,
            max_position_embeddings=64,
            init_std=0.3,
        ),
        _bart,
        **_TARGET,
    ),
    "clip text": _entry(
        _model("CLIPTextModel", "CLIPTextConfig", eos_token_id=2, **_SMALL),
        lambda batch, time: {"input_ids": torch.randint(3, _WORDS, (batch, time))},
    ),
    "vit": _entry(
        _model(
            "ViTForImageClassification",
            "ViTConfig",
            image_size=32,
            patch_size=8,
            num_labels=7,
            **{
                k: v
                for k, v in _SMALL.items()
                if k not in ("vocab_size", "max_position_embeddings")
            },
        ),
        lambda batch: {"pixel_values": torch.randn(batch, 3, 32, 32)},
        **_IMAGE,
    ),
    "whisper encoder": _entry(
        lambda: _model(
            "WhisperModel",
            "WhisperConfig",
            vocab_size=_WORDS,
            d_model=32,
            num_mel_bins=8,
            encoder_layers=2,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=37,
            decoder_ffn_dim=37,
            max_source_positions=20,
            init_std=0.3,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )().get_submodule("encoder"),
        lambda batch: {"input_features": torch.randn(batch, 8, 40)},
        dimensions=rows("input_features"),
        ranges={},
    ),
    "wav2vec2": _entry(
        _model(
            "Wav2Vec2Model",
            "Wav2Vec2Config",
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=37,
            conv_dim=(16, 16),
            conv_kernel=(8, 4),
            conv_stride=(4, 2),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
            initializer_range=0.3,
        ),
        lambda batch, time: {"input_values": torch.randn(batch, time)},
        dimensions=sequences("input_values"),
        sizes={"time": 200},
        ranges={"time": Range(64, 400)},
    ),
    "segformer": _entry(
        _model(
            "SegformerForSemanticSegmentation",
            "SegformerConfig",
            hidden_sizes=[8, 16, 16, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 2, 4],
            decoder_hidden_size=16,
            num_labels=4,
            initializer_range=0.3,
        ),
        lambda batch: {"pixel_values": torch.randn(batch, 3, 64, 64)},
        **_IMAGE,
    ),
}
