"""An LSTM language model in the place of the transformer: the baseline that has neither attention nor positions."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genlab.models.positions import stacked_embedding
from genlab.models.stacked import Call, StackedModel, dropped, same, take

__all__ = ["LSTM"]


class LSTM(StackedModel):
    """R stacked LSTMs of one shape (Hochreiter and Schmidhuber 1997; forget gates of Gers et al. 2000).

    i, f, g, o = x W_x + h W_h + b;  c = sigmoid(f + 1) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c).

    The forget gate starts open (Jozefowicz et al. 2015). The state is as wide as gives the model nearly as many
    parameters as the transformer that its configuration would otherwise be (`parameters.lstm_width`).
    """

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
