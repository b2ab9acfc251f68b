"""An LSTM language model: a baseline without attention or position encodings."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genlab.models.parameters import Weight, Weights, linear, size, unembedding
from genlab.models.positions import stacked_embedding
from genlab.models.stacked import Call, StackedModel, apply_dropout, gather_rows, identity
from genlab.models.transformer import Transformer
from genlab.spec import ModelConfig


class LSTM(StackedModel):
    """R stacked LSTMs of one shape (Hochreiter and Schmidhuber 1997; forget gates of Gers et al. 2000).

    i, f, g, o = x W_x + h W_h + b;  c = sigmoid(f + 1) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c).

    The forget gate is biased toward open (Jozefowicz et al. 2015). The state width is chosen so that the model has
    close to as many parameters as a transformer with the same configuration (`lstm_width`).
    """

    @classmethod
    def weights(cls, cfg: ModelConfig) -> Weights:
        """The embedding, the gates of each layer with state width `lstm_width`, and the unembedding."""
        return _weights(cfg, lstm_width(cfg))

    def _logits(self, tokens: Int[Tensor, "run batch pos"], call: Call) -> Tensor:
        hook = call.tap or identity
        x = apply_dropout(hook("hook_embed", stacked_embedding(self.params["embed.W_E"], tokens)), call.drop)
        for i in range(self.cfg.n_layers):
            name = f"blocks.{i}"
            memory = {} if call.past is None else call.past.memory(name)
            x = apply_dropout(hook(f"{name}.hook_resid_post", self._layer(name, x, memory)), call.drop)
        if call.at is not None:
            x = gather_rows(x, self._rows(call.at, tokens.shape, 0))
        return self._unembed(x)

    def _layer(
        self, name: str, x: Float[Tensor, "run batch pos d_in"], memory: dict[str, Tensor]
    ) -> Float[Tensor, "run batch pos d_state"]:
        """h at each position. h and c are read from `memory` and written back to it."""
        driven, recur = self._linear(f"{name}.lstm", "x", x), self.params[f"{name}.lstm.W_h"]
        start = x.new_zeros(*x.shape[:2], recur.shape[1])
        h, c = memory.get("h", start), memory.get("c", start)
        states: list[Tensor] = []
        for gates in driven.unbind(-2):
            i, f, g, o = torch.baddbmm(gates, h, recur).chunk(4, dim=-1)
            c = (f + 1).sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        memory["h"], memory["c"] = h, c
        return torch.stack(states, dim=-2)


def lstm_width(cfg: ModelConfig) -> int:
    """The state width whose parameter count is closest to that of a transformer with the same configuration."""
    as_default = {"positions": "learned", "normalization_type": "LN", "final_norm": True}
    target = size(Transformer.weights(cfg.model_copy(update=as_default)))
    width = 1
    while size(_weights(cfg, width + 1)) <= target:
        width += 1
    return min(width, width + 1, key=lambda w: abs(size(_weights(cfg, w)) - target))


def _weights(cfg: ModelConfig, width: int) -> Weights:
    declared: Weights = {"embed.W_E": Weight((cfg.d_vocab, cfg.d_model), cfg.init_std)}
    for i in range(cfg.n_layers):
        prefix = f"blocks.{i}.lstm"
        declared |= linear(cfg, prefix, "x", width if i else cfg.d_model, 4 * width)
        declared[f"{prefix}.W_h"] = Weight((width, 4 * width), cfg.init_std)
    return declared | unembedding(cfg, width)
