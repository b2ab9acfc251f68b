"""What `step.py` compares: our step, a plain GPT loop and a TransformerLens bridge, on the same batches and weights.

The run: sort at length 32 (65 positions), 2 layers, d_model 64, 4 heads, batch 64, AdamW, float32, learned positions
at random offsets, loss on the answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genlab.models import views
from genlab.spec import ModelConfig, RunSpec, TrainConfig
from genlab.tasks import Examples, Task, make
from genlab.training import Stack, Stream, fresh
from genlab.training.batches import arrange, stack_examples, to_device
from genlab.training.loop import precision
from genlab.training.optimizer import learning_rate

STEPS = 100_000


@dataclass(frozen=True)
class Size:
    """What is trained: sort at one length (2 length + 1 positions), in batches of 64."""

    length: int = 32
    n_layers: int = 2
    d_model: int = 64
    n_heads: int = 4
    dtype: str = "float32"

    @property
    def task(self) -> Task:
        return make("sort", max_len=self.length * 3 // 2)

    def spec(self, seed: int = 0) -> RunSpec:
        """The run that all contenders train."""
        task, shape = self.task, {"n_layers": self.n_layers, "d_model": self.d_model, "n_heads": self.n_heads}
        model = ModelConfig(d_vocab=len(task.vocab), n_ctx=task.n_ctx, **shape)
        lengths = {"train_len": self.length, "min_len": self.length, "steps": STEPS, "eval_every": STEPS}
        train = TrainConfig(**lengths, dtype=self.dtype, init_seed=seed, data_seed=seed)  # pyright: ignore
        return RunSpec(task=task.spec, model=model, train=train)

    def flops(self) -> float:
        """Floating-point operations of the matrix products of a step, when nothing is left out."""
        d, tokens = self.d_model, 64 * (2 * self.length + 1)
        attention = 2 * tokens * (2 * self.length + 1) * d  # multiply-adds of scores and of what they weigh
        scored = 64 * (self.length + 1) * d * len(self.task.vocab)
        return 6 * (self.n_layers * (12 * d * d * tokens + attention) + scored)


# -- the plain loop ------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        z = attention(q, k, v)
        x = x + self.proj(z.transpose(1, 2).reshape(B, T, D))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's fused kernel; on a CPU in float32, since backwards it is ten times slower in bfloat16 there."""
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class GPT(nn.Module):
    def __init__(self, cfg: ModelConfig):
        super().__init__()
        d = cfg.d_model
        self.wte, self.wpe = nn.Embedding(cfg.d_vocab, d), nn.Embedding(cfg.n_ctx, d)
        self.blocks = nn.ModuleList(Block(d, cfg.n_heads) for _ in range(cfg.n_layers))
        self.ln_f, self.head = nn.LayerNorm(d), nn.Linear(d, cfg.d_vocab)

    def forward(self, tokens: Tensor, positions: Tensor, scored: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(positions)
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x[scored]))


def gpt_names(cfg: ModelConfig) -> dict[str, str]:
    """Its parameters -> ours."""
    names = {"wte.weight": "embed.W_E", "wpe.weight": "pos_embed.W_pos", "head.weight": "unembed.W_U"}
    names |= {"head.bias": "unembed.b_U", "ln_f.weight": "ln_final.w", "ln_f.bias": "ln_final.b"}
    linear = {"qkv": "attn.?_QKV", "proj": "attn.?_O", "up": "mlp.?_in", "down": "mlp.?_out"}
    for i in range(cfg.n_layers):
        for theirs, ours in linear.items():
            names[f"blocks.{i}.{theirs}.weight"] = f"blocks.{i}.{ours.replace('?', 'W')}"
            names[f"blocks.{i}.{theirs}.bias"] = f"blocks.{i}.{ours.replace('?', 'b')}"
        for ln in ("ln1", "ln2"):
            names[f"blocks.{i}.{ln}.weight"], names[f"blocks.{i}.{ln}.bias"] = (
                f"blocks.{i}.{ln}.w",
                f"blocks.{i}.{ln}.b",
            )
    return names


def bridge_names(cfg: ModelConfig) -> dict[str, str]:
    """Its parameters -> ours; Q, K and V are `[part of]` one matrix of ours."""
    names = {"tok_embed.weight": "embed.W_E", "pos.weight": "pos_embed.W_pos", "head.weight": "unembed.W_U"}
    names |= {"ln_out.weight": "ln_final.w", "ln_out.bias": "ln_final.b"}
    linear = {"attn.o": "attn.?_O", "mlp.fc_in": "mlp.?_in", "mlp.fc_out": "mlp.?_out"}
    linear |= {f"attn.{letter}": f"attn.?_QKV/{part}" for part, letter in enumerate("qkv")}
    for i in range(cfg.n_layers):
        for theirs, ours in linear.items():
            names[f"layers.{i}.{theirs}.weight"] = f"blocks.{i}.{ours.replace('?', 'W')}"
            names[f"layers.{i}.{theirs}.bias"] = f"blocks.{i}.{ours.replace('?', 'b')}"
        for ln in ("ln1", "ln2"):
            names[f"layers.{i}.{ln}.weight"], names[f"layers.{i}.{ln}.bias"] = (
                f"blocks.{i}.{ln}.w",
                f"blocks.{i}.{ln}.b",
            )
    return names


@torch.no_grad()
def carry_over(spec: RunSpec, module: nn.Module, names: dict[str, str]) -> None:
    """Give a module the initial weights of our run (its matrices are ours transposed, but for embeddings)."""
    ours = {name: w[0] for name, w in views(fresh([spec])[0].weights[None], spec.model).items()}
    for name, p in module.named_parameters():
        place, _, part = names[name.replace("_original_component.", "")].partition("/")
        weight = ours[place] if not part else ours[place].chunk(3, dim=-1)[int(part)]
        p.copy_(weight.T if weight.ndim == 2 and place.split(".")[-1] not in ("W_E", "W_pos") else weight)


class Loop:
    """AdamW by hand around a module's loss: the same batches, learning rate, decay and clipping as ours."""

    def __init__(
        self,
        spec: RunSpec,
        module: nn.Module,
        logits: Callable[[Tensor, Tensor, Tensor], Tensor],
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ):
        self.device = device
        self.train, self.module, self.logits = spec.train, module, logits
        self.stream = Stream(make(spec.task), spec.train)
        self.params = list(module.parameters())
        groups = [
            {"params": [p for p in self.params if p.ndim > 1], "weight_decay": spec.train.weight_decay},
            {"params": [p for p in self.params if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=spec.train.lr, betas=spec.train.betas, fused=True)
        self.done = 0

    def step(self) -> Tensor:
        batch = self.stream.batch(self.done)
        arrays = [self.stream.offsets(self.done, batch), *contiguous(batch)]
        offsets, tokens, targets, scored = (torch.from_numpy(array).to(self.device) for array in arrays)
        positions = offsets[:, None] + torch.arange(tokens.shape[1], device=self.device)
        with precision(self.train.dtype, self.device):
            loss = F.cross_entropy(self.logits(tokens, positions, scored).float(), targets[scored])
            loss.backward()
        nn.utils.clip_grad_norm_(self.params, self.train.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.train, self.done)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return loss.detach()


def contiguous(batch: Examples) -> list[np.ndarray]:
    return [np.ascontiguousarray(a) for a in (batch.tokens, batch.targets, batch.scored)]


# -- the contenders: each gives a function that takes one step and returns its loss -----------------------------


def genlab_step(seed: int, size: Size = Size(), runs: int = 1) -> Callable[[], float]:
    stack = Stack(size.task, fresh([size.spec(seed + i) for i in range(runs)]), torch.device("cpu"))

    def step() -> float:
        stack.take_step()
        return stack.states()[0].loss_sum if stack.step == 1 else math.nan

    return step


def plain_step(seed: int, size: Size = Size()) -> Callable[[], float]:
    spec = size.spec(seed)
    gpt = GPT(spec.model)
    carry_over(spec, gpt, gpt_names(spec.model))
    loop = Loop(spec, gpt, gpt)
    return lambda: float(loop.step())


def bridge_step(seed: int, size: Size = Size()) -> Callable[[], float]:
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    spec = size.spec(seed)
    shape = {
        name: getattr(spec.model, name) for name in ("d_model", "d_head", "n_heads", "n_layers", "n_ctx", "d_mlp")
    }
    config = TransformerBridgeConfig(
        **shape, d_vocab=spec.model.d_vocab, act_fn="gelu", normalization_type="LN", seed=0
    )
    bridge = TransformerBridge.boot_native(config)
    carry_over(spec, bridge.original_model, bridge_names(spec.model))
    loop = Loop(spec, bridge.original_model, lambda ids, at, scored: bridge(ids, position_ids=at)[scored])
    return lambda: float(loop.step())


def batches_only(seed: int, size: Size = Size()) -> Callable[[], float]:
    """The part of our step that makes the batch, down to the tensors."""
    stack, made = Stream(size.task, size.spec(seed).train), [0]
    like = torch.zeros(1)

    def step() -> float:
        batch = stack.batch(made[0])
        to_device(arrange(stack_examples([batch]), stack.offsets(made[0], batch)[None], "scored"), like)
        made[0] += 1
        return math.nan

    return step


CONTENDERS = {"genlab": genlab_step, "plain": plain_step, "bridge": bridge_step, "batches": batches_only}
