"""Muon for the matrices of the layers, AdamW for embedding and norms.

PyTorch's own Muon computes in bfloat16, which CPUs without such instructions emulate slowly; this
one stays in float32 and orthogonalises all matrices of one shape at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = ((4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037), (2.8769, -3.1427, 1.2046))  # fmt: skip
"""Coefficients of the quintic iteration, one row an iteration (published with the Polar Express)."""


def orthogonalised(g: Tensor) -> Tensor:
    """g: [count, rows, columns] -> nearly the nearest semi-orthogonal matrices, the same shape.

    Every iteration multiplies from the left with a polynomial of x x^T, so all of them run on the
    small square s = x x^T, and their product p meets the long matrix once.
    """
    tall = g.shape[1] > g.shape[2]
    x = g.mT if tall else g
    x = x / (x.norm(dim=(1, 2), keepdim=True) * 1.02 + 1e-6)
    s = torch.bmm(x, x.mT)
    one = torch.eye(s.shape[1], dtype=s.dtype).expand_as(s)
    p = one
    for i, (a, b, c) in enumerate(NEWTON_SCHULZ):
        q = torch.baddbmm(b * s, s, s, alpha=c) + a * one
        p = q if i == 0 else torch.bmm(q, p)
        if i + 1 < len(NEWTON_SCHULZ):
            s = torch.bmm(torch.bmm(q, s), q)
    x = torch.bmm(p, x)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for p in group["params"]:
                by_shape.setdefault(p.shape, []).append(p)
            for shape, parameters in by_shape.items():
                updates = []
                for p in parameters:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(buffer, group["momentum"]))
                # 0.2 * sqrt(max side): updates as large as AdamW's, so that one learning rate fits both.
                scale = 0.2 * max(shape) ** 0.5
                for p, update in zip(parameters, orthogonalised(torch.stack(updates)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-group["lr"] * scale)


def optimisers(model: nn.Module, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "token_embd" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "token_embd" in name]
    return [
        Muon(matrices, lr, weight_decay=weight_decay),
        torch.optim.AdamW(rest, lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
