"""An LSTM language model in the place of the transformer: the baseline that has neither attention nor positions."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genlab.models.parameters import Weight, Weights, linear, size, unembedding
from genlab.models.positions import stacked_embedding
from genlab.models.stacked import Call, StackedModel, dropped, same, take
from genlab.models.transformer import Transformer
from genlab.spec import ModelConfig


class LSTM(StackedModel):
    """R stacked LSTMs of one shape (Hochreiter and Schmidhuber 1997; forget gates of Gers et al. 2000).

    i, f, g, o = x W_x + h W_h + b;  c = sigmoid(f + 1) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c).

    The forget gate starts open (Jozefowicz et al. 2015). The state is as wide as gives the model nearly as many
    parameters as the transformer that its configuration would otherwise be (`lstm_width`).
    """

    @classmethod
    def weights(cls, cfg: ModelConfig) -> Weights:
        """The embedding, the gates of each layer at `lstm_width`, the unembedding."""
        return _weights(cfg, lstm_width(cfg))

    def _logits(self, tokens: Int[Tensor, "run batch pos"], call: Call) -> Tensor:
        look = call.tap or same
        x = dropped(look("hook_embed", stacked_embedding(self.params["embed.W_E"], tokens)), call.drop)
        for i in range(self.cfg.n_layers):
            name = f"blocks.{i}"
            memory = {} if call.past is None else call.past.memory(name)
            x = dropped(look(f"{name}.hook_resid_post", self._layer(name, x, memory)), call.drop)
        if call.at is not None:
            x = take(x, self._rows(call.at, tokens.shape, 0))
        return self._unembed(x)

    def _layer(
        self, name: str, x: Float[Tensor, "run batch pos d_in"], memory: dict[str, Tensor]
    ) -> Float[Tensor, "run batch pos d_state"]:
        """h at each position; h and c go on from `memory`, and are left there."""
        driven, recur = self._linear(f"{name}.lstm", "x", x), self.params[f"{name}.lstm.W_h"]
        start = x.new_zeros(*x.shape[:2], recur.shape[1])
        h, c = memory.get("h", start), memory.get("c", start)
        found: list[Tensor] = []
        for gates in driven.unbind(-2):
            i, f, g, o = torch.baddbmm(gates, h, recur).chunk(4, dim=-1)
            c = (f + 1).sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            found.append(h)
        memory["h"], memory["c"] = h, c
        return torch.stack(found, dim=-2)


def lstm_width(cfg: ModelConfig) -> int:
    """Width of the state at which an LSTM has as many parameters as the transformer of its configuration, nearly."""
    as_default = {"positions": "learned", "normalization_type": "LN", "final_norm": True}
    wanted = size(Transformer.weights(cfg.model_copy(update=as_default)))
    width = 1
    while size(_weights(cfg, width + 1)) <= wanted:
        width += 1
    return min(width, width + 1, key=lambda w: abs(size(_weights(cfg, w)) - wanted))


def _weights(cfg: ModelConfig, width: int) -> Weights:
    found: Weights = {"embed.W_E": Weight((cfg.d_vocab, cfg.d_model), cfg.init_std)}
    for i in range(cfg.n_layers):
        place = f"blocks.{i}.lstm"
        found |= linear(cfg, place, "x", width if i else cfg.d_model, 4 * width)
        found[f"{place}.W_h"] = Weight((width, 4 * width), cfg.init_std)
    return found | unembedding(cfg, width)
