"""How far one set of logits is from another, and the bounds of the project's acceptance."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch

ROWS_AT_ONCE = 64  # 64 rows of gemma's 262,144 logits in float64: 134 MB


@dataclass
class Comparison:
    """Sums over positions, so that texts can be added up."""

    positions: int = 0
    kl_sum: float = 0.0
    kl_max: float = 0.0
    clear_positions: int = 0  # where the oracle's best leads the second by more than the margin
    clear_agreements: int = 0
    predicted: int = 0  # tokens that have a predecessor
    oracle_nll: float = 0.0
    candidate_nll: float = 0.0

    def add(self, other: "Comparison") -> None:
        for name, value in asdict(other).items():
            merged = max(self.kl_max, value) if name == "kl_max" else getattr(self, name) + value
            setattr(self, name, merged)

    @property
    def mean_kl(self) -> float:
        return self.kl_sum / max(1, self.positions)

    @property
    def top1_agreement(self) -> float:
        return self.clear_agreements / self.clear_positions if self.clear_positions else 1.0

    @property
    def oracle_perplexity(self) -> float:
        return math.exp(self.oracle_nll / max(1, self.predicted))

    @property
    def candidate_perplexity(self) -> float:
        return math.exp(self.candidate_nll / max(1, self.predicted))

    @property
    def perplexity_difference(self) -> float:
        return abs(self.candidate_perplexity / self.oracle_perplexity - 1.0)

    def __str__(self) -> str:
        return (
            f"{self.positions:5d} positions  KL {self.mean_kl:.2e} (worst {self.kl_max:.1e})  "
            f"top-1 {100 * self.top1_agreement:6.2f} % of {self.clear_positions}  "
            f"perplexity {self.oracle_perplexity:.4f} / {self.candidate_perplexity:.4f} "
            f"({100 * self.perplexity_difference:.3f} %)"
        )

    def as_dict(self) -> dict:
        return dict(
            asdict(self),
            mean_kl=self.mean_kl,
            top1_agreement=self.top1_agreement,
            oracle_perplexity=self.oracle_perplexity,
            candidate_perplexity=self.candidate_perplexity,
            perplexity_difference=self.perplexity_difference,
        )


@dataclass(frozen=True)
class Bounds:
    mean_kl: float
    top1_agreement: float = 0.99
    perplexity_difference: float = 0.005

    def failures(self, c: Comparison) -> list[str]:
        # Written so that a NaN fails.
        out = []
        if not c.mean_kl < self.mean_kl:
            out.append(f"mean KL {c.mean_kl:.3e} nats, bound {self.mean_kl:g}")
        if not c.top1_agreement >= self.top1_agreement:
            out.append(f"top-1 agreement {c.top1_agreement:.4f}, bound {self.top1_agreement:g}")
        if not c.perplexity_difference <= self.perplexity_difference:
            out.append(
                f"perplexity differs by {c.perplexity_difference:.4%}, "
                f"bound {self.perplexity_difference:.2%}"
            )
        return out


BOUNDS = {"f32": Bounds(mean_kl=1e-3), "q16": Bounds(mean_kl=5e-3), "q8": Bounds(mean_kl=5e-3)}


def compare_logits(oracle, candidate, ids: list[int], margin: float = 0.1) -> Comparison:
    """oracle, candidate: [len(ids), vocabulary] tensors or arrays, row i the logits after
    ids[i].
    """
    if tuple(oracle.shape) != tuple(candidate.shape) or oracle.shape[0] != len(ids):
        raise SystemExit(
            f"shapes differ: oracle {tuple(oracle.shape)}, candidate {tuple(candidate.shape)}, "
            f"{len(ids)} ids"
        )
    oracle, candidate = (
        x.numpy() if isinstance(x, torch.Tensor) else x for x in (oracle, candidate)
    )
    out = Comparison()
    for begin in range(0, len(ids), ROWS_AT_ONCE):
        end = min(begin + ROWS_AT_ONCE, len(ids))
        p = torch.log_softmax(torch.tensor(oracle[begin:end], dtype=torch.float64), dim=-1)
        q = torch.log_softmax(torch.tensor(candidate[begin:end], dtype=torch.float64), dim=-1)
        kl = (p.exp() * (p - q)).sum(-1)
        best = p.topk(2, dim=-1)
        clear = best.values[:, 0] - best.values[:, 1] > margin
        agree = q.argmax(-1) == best.indices[:, 0]
        out.positions += end - begin
        out.kl_sum += float(kl.sum())
        out.kl_max = max(out.kl_max, float(kl.max()))
        out.clear_positions += int(clear.sum())
        out.clear_agreements += int((clear & agree).sum())
        following = torch.tensor(ids[begin + 1 : end + 1]).unsqueeze(1)
        rows = following.shape[0]
        out.predicted += rows
        out.oracle_nll -= float(p[:rows].gather(1, following).sum())
        out.candidate_nll -= float(q[:rows].gather(1, following).sum())
    return out
