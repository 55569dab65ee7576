"""Steps are differentiated one by one, so a longer chain does not need more memory."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.backbones import build_algorithm


class PeakMemory(TorchDispatchMode):
    """Bytes of all live storages that operations return, and their peak."""

    def __init__(self):
        super().__init__()
        self.living, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._watch(tensor.untyped_storage())
        return out

    def _watch(self, storage):
        key = storage._cdata
        if key in self.living:
            return
        size = storage.nbytes()
        self.living[key] = weakref.finalize(storage, self._free, key, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _free(self, key, size):
        del self.living[key]
        self.now -= size


def peak(num_steps: int) -> int:
    model = build_algorithm(num_steps=num_steps)
    inputs = [torch.randn(8, 3, 32, 32) for _ in range(2)]
    with PeakMemory() as memory:
        model(inputs, mode='loss')['loss'].backward()
    return memory.peak


def test_peak_memory_does_not_grow_with_the_number_of_steps():
    one, four = peak(1), peak(4)
    activations = 8 * 17 * 32 * 4  # bytes of one (B, L, D) tensor
    assert one > 20 * activations  # the graph of a step is in it
    # Later steps hold the x of the step before, and the gradients so far: one set, not two.
    gradients = sum(p.numel() * 4 for p in build_algorithm().parameters())
    x = 8 * 3 * 32 * 32 * 4
    assert one > 5 * (gradients + x)
    assert four <= one + 1.01 * (gradients + x)


def test_the_measure_sees_a_chain_that_keeps_its_graphs():
    """Written as in Listing 1, it grows: so the test above can fail."""

    def listing_1(num_steps):
        model = build_algorithm()
        x, clean = (torch.randn(8, 3, 32, 32) for _ in range(2))
        with PeakMemory() as memory:
            loss = 0
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                for _ in range(num_steps):
                    x = x.detach().requires_grad_()
                    energy = model.energy(x).sum()
                    x = x - torch.autograd.grad(energy, x, create_graph=True)[0]
                    loss = loss + torch.nn.functional.smooth_l1_loss(x, clean)
                loss.backward()
        return memory.peak

    assert listing_1(4) > 2 * listing_1(1)
