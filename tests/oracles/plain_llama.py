"""The llama forward pass over a GGUF's own tensors, in some sixty lines of PyTorch and nothing
else.

Independent of transformers on purpose: it works in the file's layout (rope on neighbouring
pairs), so it also judges the mapping in gguf_hf.py. Run as a script it compares the two on given
files.
"""

from __future__ import annotations

import sys

import torch

from gguf_hf import GgufFile, _first

Tensor = torch.Tensor


class PlainLlama:
    """Weights of an architecture 'llama' file, in `dtype`; call with ids for logits."""

    def __init__(self, path: str, dtype: torch.dtype = torch.float32):
        file = GgufFile(path)
        if file.architecture != "llama":
            raise SystemExit(
                f"{path}: architecture {file.architecture!r}; this forward pass is llama's only"
            )
        if file.key("rope.scaling.type", "none") not in ("none", "linear"):
            raise SystemExit(
                f"{path}: rope scaling {file.key('rope.scaling.type')!r} is not built here"
            )
        self.weights = {name: file.tensor(name).to(dtype) for name in file.tensors}
        self.layers = file.need("block_count")
        self.heads = _first(file.need("attention.head_count"))
        self.kv_heads = _first(file.key("attention.head_count_kv", self.heads))
        self.epsilon = file.need("attention.layer_norm_rms_epsilon")
        rotary = file.key("rope.dimension_count", file.need("embedding_length") // self.heads)
        exponent = torch.arange(0, rotary, 2, dtype=torch.float64) / rotary
        self.frequencies = file.key("rope.freq_base", 10000.0) ** -exponent
        self.frequencies = self.frequencies / (file.key("rope.scaling.factor", 0.0) or 1.0)
        if "rope_freqs.weight" in self.weights:
            self.frequencies = self.frequencies / self.weights["rope_freqs.weight"].double()
        self.dtype = dtype

    def norm(self, x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weights[name]

    def linear(self, x: Tensor, stem: str) -> Tensor:
        y = x @ self.weights[stem + ".weight"].T
        return y + self.weights[stem + ".bias"] if stem + ".bias" in self.weights else y

    def rotate(self, x: Tensor) -> Tensor:
        """x: [tokens, heads, columns]; columns 2i and 2i + 1 turn together by position *
        frequency[i].
        """
        angle = torch.arange(x.shape[0], dtype=torch.float64)[:, None] * self.frequencies
        cos, sin = angle.cos().to(self.dtype)[:, None], angle.sin().to(self.dtype)[:, None]
        turned, rest = x[..., : 2 * len(self.frequencies)], x[..., 2 * len(self.frequencies) :]
        even, odd = turned[..., 0::2], turned[..., 1::2]
        pairs = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
        return torch.cat((pairs.flatten(-2), rest), dim=-1)

    def attention(self, x: Tensor, block: str) -> Tensor:
        tokens = x.shape[0]
        q = self.rotate(self.linear(x, block + "attn_q").view(tokens, self.heads, -1))
        k = self.rotate(self.linear(x, block + "attn_k").view(tokens, self.kv_heads, -1))
        v = self.linear(x, block + "attn_v").view(tokens, self.kv_heads, -1)
        later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        out = []
        for head in range(self.heads):
            group = head * self.kv_heads // self.heads
            scores = q[:, head] @ k[:, group].T / q.shape[-1] ** 0.5
            out.append(scores.masked_fill(later, float("-inf")).softmax(-1) @ v[:, group])
        return self.linear(torch.cat(out, dim=-1), block + "attn_output")

    def feed_forward(self, x: Tensor, block: str) -> Tensor:
        gate = self.linear(x, block + "ffn_gate")
        return self.linear(
            gate * torch.sigmoid(gate) * self.linear(x, block + "ffn_up"), block + "ffn_down"
        )

    @torch.no_grad()
    def __call__(self, ids: list[int]) -> Tensor:
        """[len(ids), vocabulary]: row i are the logits after token i."""
        x = self.weights["token_embd.weight"][torch.tensor(ids)]
        for layer in range(self.layers):
            block = f"blk.{layer}."
            x = x + self.attention(self.norm(x, block + "attn_norm.weight"), block)
            x = x + self.feed_forward(self.norm(x, block + "ffn_norm.weight"), block)
        x = self.norm(x, "output_norm.weight")
        head = "output.weight" if "output.weight" in self.weights else "token_embd.weight"
        return x @ self.weights[head].T


def main() -> None:
    from gguf_hf import load_gguf, logits_of
    from metrics import compare_logits

    torch.set_num_threads(2)
    for path in sys.argv[1:]:
        plain = PlainLlama(path)
        vocabulary = plain.weights["token_embd.weight"].shape[0]
        ids = torch.randint(
            0, vocabulary, (200,), generator=torch.Generator().manual_seed(1)
        ).tolist()
        ours, theirs = plain(ids), logits_of(load_gguf(path), ids)
        print(
            path,
            f"max |difference| {float((ours - theirs).abs().max()):.2e}",
            compare_logits(ours, theirs, ids),
        )


if __name__ == "__main__":
    main()
