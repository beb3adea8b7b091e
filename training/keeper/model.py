"""The network: a small llama, written so that llama.cpp computes the same from the exported file."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the network. Rows must be multiples of 32 (Q8_0 blocks) and no row may be 32 itself."""

    vocabulary: int = 2560
    width: int = 256
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    head_width: int = 64
    hidden: int = 704
    context: int = 1024
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def rope_table(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines, [context, head_width / 2], for pairs of neighbouring values (llama.cpp's `llama`)."""
    half = torch.arange(0, shape.head_width, 2, dtype=torch.float32) / shape.head_width
    angles = torch.outer(torch.arange(shape.context, dtype=torch.float32), shape.rope_base**-half)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: [batch, heads, tokens, head_width]; cos, sin: [tokens, head_width / 2]."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Norm(nn.Module):
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


class Layer(nn.Module):
    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.shape, self.dropout = shape, dropout
        rows, kv_rows = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        self.attn_norm = Norm(shape.width, shape.epsilon)
        self.attn_q = nn.Linear(shape.width, rows, bias=False)
        self.attn_k = nn.Linear(shape.width, kv_rows, bias=False)
        self.attn_v = nn.Linear(shape.width, kv_rows, bias=False)
        self.attn_output = nn.Linear(rows, shape.width, bias=False)
        self.ffn_norm = Norm(shape.width, shape.epsilon)
        self.ffn_gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: list[Tensor] | None) -> Tensor:
        shape, (batch, tokens, _) = self.shape, x.shape
        h = self.attn_norm(x)
        q = self.attn_q(h).view(batch, tokens, shape.heads, -1).transpose(1, 2)
        k = self.attn_k(h).view(batch, tokens, shape.kv_heads, -1).transpose(1, 2)
        v = self.attn_v(h).view(batch, tokens, shape.kv_heads, -1).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            if cache:
                k, v = torch.cat((cache[0], k), 2), torch.cat((cache[1], v), 2)
            cache[:] = [k, v]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=tokens > 1, enable_gqa=True)
        x = x + F.dropout(self.attn_output(y.transpose(1, 2).reshape(batch, tokens, -1)), self.dropout, self.training)
        h = self.ffn_norm(x)
        h = self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x + F.dropout(h, self.dropout, self.training)


class Keeper(nn.Module):
    """Input and output share the embedding, as in the exported file (no `output.weight`)."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape, dropout) for _ in range(shape.layers))
        self.output_norm = Norm(shape.width, shape.epsilon)
        cos, sin = rope_table(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.token_embd.weight, std=0.05)
        for name, weight in self.layers.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
                if "attn_output" in name or "ffn_down" in name:
                    weight.data.mul_((2 * self.shape.layers) ** -0.5)

    def rows(self, ids: Tensor, caches: list[list[Tensor]] | None = None, position: int = 0) -> Tensor:
        """ids: [batch, tokens] -> rows after the final norm, [batch, tokens, width]."""
        x = self.token_embd(ids)
        end = position + ids.shape[1]
        cos, sin = self.cos[position:end], self.sin[position:end]
        for i, layer in enumerate(self.layers):
            x = layer(x, cos, sin, None if caches is None else caches[i])
        return self.output_norm(x)

    @torch.inference_mode()
    def row_losses(self, ids: Tensor, weights: Tensor) -> Tensor:
        """Next-token loss of each row, summed over its weighted tokens: [batch]."""
        rows = self.rows(ids[:, :-1])
        wanted = weights[:, 1:] > 0
        logits = rows[wanted] @ self.token_embd.weight.T
        losses = torch.zeros(wanted.shape)
        losses[wanted] = F.cross_entropy(logits, ids[:, 1:][wanted], reduction="none")
        return losses.sum(1)

    @torch.inference_mode()
    def probabilities(self, ids: Tensor, weights: Tensor) -> Tensor:
        """What this network expects at each weighted token: [weighted tokens, vocabulary]."""
        rows = self.rows(ids[:, :-1])
        return (rows[weights[:, 1:] > 0] @ self.token_embd.weight.T).softmax(-1)

    def loss(self, ids: Tensor, weights: Tensor, wanted_probabilities: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weighted next-token loss (sum, sum of weights). weights: [batch, tokens], of each token as a target.

        wanted_probabilities: [weighted tokens, vocabulary], learned from instead of the tokens that stand there.
        """
        rows = self.rows(ids[:, :-1])
        wanted = weights[:, 1:] > 0
        logits = rows[wanted] @ self.token_embd.weight.T
        targets = ids[:, 1:][wanted] if wanted_probabilities is None else wanted_probabilities.clone()
        each = F.cross_entropy(logits, targets, reduction="none")
        weight = weights[:, 1:][wanted]
        return (each * weight).sum(), weight.sum()
