"""Q8_0, the form in which the weights are shipped: what is measured here is what runs there."""

from __future__ import annotations

import gguf
import torch
from gguf import GGMLQuantizationType, quants

from .model import Keeper
from .tokens import CHAT_TEMPLATE, CONTROL, END, PAD, PRE_TOKENIZER_NAME, THINK, THOUGHT, Codec

Q8_0 = GGMLQuantizationType.Q8_0


def rounded(model: Keeper) -> Keeper:
    """A copy whose matrices are what Q8_0 keeps of them."""
    copy = Keeper(model.shape)
    state = {}
    for name, value in model.state_dict().items():
        if value.ndim == 2:
            value = torch.from_numpy(quants.dequantize(quants.quantize(value.numpy(), Q8_0), Q8_0))
        state[name] = value
    copy.load_state_dict(state)
    return copy.eval()


def write(model: Keeper, codec: Codec, file: str, *, name: str, description: str, version: str) -> None:
    shape = model.shape
    out = gguf.GGUFWriter(file, "llama")
    out.add_name(name)
    out.add_description(description)
    out.add_author("the minikeep authors")
    out.add_version(version)
    out.add_license("apache-2.0")
    out.add_languages(["en"])
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    out.add_vocab_size(shape.vocabulary)
    out.add_context_length(shape.context)
    out.add_embedding_length(shape.width)
    out.add_block_count(shape.layers)
    out.add_feed_forward_length(shape.hidden)
    out.add_head_count(shape.heads)
    out.add_head_count_kv(shape.kv_heads)
    out.add_rope_dimension_count(shape.head_width)
    out.add_rope_freq_base(shape.rope_base)
    out.add_layer_norm_rms_eps(shape.epsilon)
    _write_tokenizer(out, codec)
    for key, value in model.state_dict().items():
        tensor = tensor_name(key)
        if value.ndim == 2:
            out.add_tensor(tensor, quants.quantize(value.numpy(), Q8_0), raw_dtype=Q8_0)
        else:
            out.add_tensor(tensor, value.numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def tensor_name(key: str) -> str:
    """`layers.3.attn_q.weight` -> `blk.3.attn_q.weight`."""
    return key.replace("layers.", "blk.", 1)


def _write_tokenizer(out: gguf.GGUFWriter, codec: Codec) -> None:
    import json

    vocabulary = codec.tokenizer.get_vocab(with_added_tokens=True)
    tokens = [token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1])]
    types = [
        gguf.TokenType.CONTROL if t in CONTROL else gguf.TokenType.USER_DEFINED if t in (THINK, THOUGHT) else gguf.TokenType.NORMAL
        for t in tokens
    ]
    merges = json.loads(codec.tokenizer.to_str())["model"]["merges"]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(PRE_TOKENIZER_NAME)
    out.add_token_list(tokens)
    out.add_token_types(types)
    out.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    out.add_bos_token_id(codec.id[END])
    out.add_eos_token_id(codec.id[END])
    out.add_pad_token_id(codec.id[PAD])
    out.add_add_bos_token(False)
    out.add_add_eos_token(False)
    out.add_chat_template(CHAT_TEMPLATE)
