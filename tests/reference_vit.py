"""A vision transformer in plain PyTorch, with the names that ``transformers`` gives its parts."""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F


class ViTModel(nn.Module):
    @classmethod
    def from_pretrained(cls, folder, add_pooling_layer):
        self = cls()
        self.config = SimpleNamespace(**json.loads(Path(folder, 'config.json').read_text()))
        assert (self.config.model_type, add_pooling_layer) == ('vit', False)
        tensors = load_file(Path(folder, 'model.safetensors'))
        self.weights = nn.ParameterDict({n.replace('.', ' '): t for n, t in tensors.items()})
        return self

    def part(self, name):
        return [self.weights.get(f'{name} {kind}') for kind in ('weight', 'bias')]

    def layernorm(self, x, name='layernorm'):
        return F.layer_norm(x, x.shape[-1:], *self.part(name), eps=self.config.layer_norm_eps)

    def forward(self, images, output_hidden_states=True):
        """Images ``(B, C, H, W)`` → tokens ``(B, 1 + L, D)`` before and after the last norm."""
        config, heads = self.config, (self.config.num_attention_heads, -1)
        assert images.shape[1:] == (config.num_channels, *config.image_size)
        patches = self.part('embeddings patch_embeddings projection')
        x = F.conv2d(images, *patches, stride=config.patch_size).flatten(2).mT
        x = torch.cat([self.weights['embeddings cls_token'].expand(len(x), -1, -1), x], dim=1)
        x = x + self.weights['embeddings position_embeddings']
        for layer in (f'encoder layer {n}' for n in range(config.num_hidden_layers)):
            y = self.layernorm(x, f'{layer} layernorm_before')
            parts = (
                self.part(f'{layer} attention attention {n}') for n in ('query', 'key', 'value')
            )
            q, k, v = (F.linear(y, *part).unflatten(-1, heads).transpose(1, 2) for part in parts)
            y = ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
            x = x + F.linear(y, *self.part(f'{layer} attention output dense'))
            y = self.layernorm(x, f'{layer} layernorm_after')
            y = F.gelu(F.linear(y, *self.part(f'{layer} intermediate dense')))
            x = x + F.linear(y, *self.part(f'{layer} output dense'))
        return SimpleNamespace(hidden_states=[x], last_hidden_state=self.layernorm(x))
