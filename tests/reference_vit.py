"""A vision transformer in plain PyTorch, with the names that ``transformers`` gives its parts."""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F


class ViTModel(nn.Module):
    """Its weights, by name; what is computed stands in :meth:`forward`."""

    @classmethod
    def from_pretrained(cls, folder: str | Path, add_pooling_layer: bool) -> 'ViTModel':
        assert not add_pooling_layer
        self = cls()
        self.config = SimpleNamespace(**json.loads(Path(folder, 'config.json').read_text()))
        assert self.config.model_type == 'vit'
        tensors = load_file(Path(folder, 'model.safetensors'))
        self.weights = nn.ParameterDict({n.replace('.', ' '): t for n, t in tensors.items()})
        return self

    def _linear(self, x: Tensor, name: str) -> Tensor:
        bias = f'{name} bias'
        return F.linear(x, self.weights[f'{name} weight'], self.weights.get(bias))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        pair = self.weights[f'{name} weight'], self.weights[f'{name} bias']
        return F.layer_norm(x, x.shape[-1:], *pair, eps=self.config.layer_norm_eps)

    def layernorm(self, x: Tensor) -> Tensor:
        return self._norm(x, 'layernorm')

    def forward(self, images: Tensor, output_hidden_states: bool = True) -> SimpleNamespace:
        """Images ``(B, C, H, W)`` → tokens ``(B, 1 + L, D)`` before and after the last norm."""
        config, patches = self.config, 'embeddings patch_embeddings projection'
        assert images.shape[1:] == (config.num_channels, *config.image_size)
        pair = self.weights[f'{patches} weight'], self.weights[f'{patches} bias']
        x = F.conv2d(images, *pair, stride=config.patch_size).flatten(2).mT
        x = torch.cat([self.weights['embeddings cls_token'].expand(len(x), -1, -1), x], dim=1)
        x = x + self.weights['embeddings position_embeddings']
        for n in range(config.num_hidden_layers):
            layer, y = f'encoder layer {n}', self._norm(x, f'encoder layer {n} layernorm_before')
            names = (f'{layer} attention attention {name}' for name in ('query', 'key', 'value'))
            heads = (self._linear(y, name) for name in names)
            q, k, v = (t.unflatten(-1, (config.num_attention_heads, -1)) for t in heads)
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            y = ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
            x = x + self._linear(y, f'{layer} attention output dense')
            y = self._linear(
                self._norm(x, f'{layer} layernorm_after'), f'{layer} intermediate dense'
            )
            x = x + self._linear(F.gelu(y), f'{layer} output dense')
        return SimpleNamespace(hidden_states=[x], last_hidden_state=self.layernorm(x))
