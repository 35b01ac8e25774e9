import torch

from runtime.llm.forward_context import use_attention
from runtime.llm.network import Inputs, Network
from tests.fakes.echo_attention import EchoAttention
from tests.fakes.toy_network import ToyModel

CPU = torch.device("cpu")


def test_logits_behind_some_tokens_are_those_of_what_was_decoded() -> None:
    model = ToyModel(CPU)
    inputs = Inputs(torch.tensor([4, 7, 1]), torch.arange(3), torch.tensor([2, 0]), [])
    network = Network(model)
    with torch.inference_mode(), use_attention(EchoAttention()):
        decoded = network.decode(inputs.by_name())
        everywhere = decoded.last_hidden_state[0] @ model.model.table.T
        logits = network.logits(decoded, inputs.logit_rows)
    assert torch.allclose(logits, everywhere[[2, 0]], atol=1e-4)
