import torch
from torch import nn

from edgeport.deploy.proof.weights import weights_sha256


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 2)
        self.out = nn.Linear(2, 4, bias=False)
        self.out.weight = self.embed.weight
        self.register_buffer("scale", torch.tensor(2, dtype=torch.bfloat16), persistent=False)


def test_equal_weights_have_one_number_wherever_they_lie_in_memory() -> None:
    torch.manual_seed(0)
    module = Tied()
    found = weights_sha256(module)
    assert len(found) == 64
    turned = module.embed.weight.data.T.contiguous().T
    assert not turned.is_contiguous()
    module.embed.weight.data = turned
    assert weights_sha256(module) == found


def test_every_change_changes_it() -> None:
    torch.manual_seed(0)
    module = Tied()
    seen = {weights_sha256(module)}
    with torch.no_grad():
        module.embed.weight[0, 0] += 1
    seen.add(weights_sha256(module))
    module.scale = module.scale.to(torch.float32)
    seen.add(weights_sha256(module))
    module.register_buffer("more", torch.zeros(0, 3))
    seen.add(weights_sha256(module))
    module.more = torch.zeros(3, 0)
    seen.add(weights_sha256(module))
    assert len(seen) == 5
