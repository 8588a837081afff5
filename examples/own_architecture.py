"""An architecture of one's own, from four lines to a trained layer: `python examples/own_architecture.py`.

The task is the running parity of bits, which needs an eigenvalue -1 that a token can switch on. The same body with
beta in [0, 1] is proved unable to compute it at every length, with beta in [0, 2] it comes with weights that do.
"""

# %% the definition
import torch

import dsf
from dsf import Gate, I, Scalar, System, Unit, Vector, architecture, outer


@architecture("My delta rule")
def mine(q=Vector, k=Unit, beta=Scalar(0, 2)):
    return System(A=I - beta * outer(k), B=beta * k, C=q)


print(mine)

# %% what it can and can never compute
for variant in (mine, mine.with_domain(beta=Gate)):
    verdict = dsf.parity(variant)
    print(f"\n{verdict}\n  check()     {verdict.check()}")

# %% run it: forward, backward, in pieces
signals, u = mine.sample(batch=1, length=256, heads=2, n=16, p=16)
system = mine(**signals)
y, state = dsf.simulate(system, u)
first, carried = dsf.simulate(system.slice(0, 100), u[:, :100])
second, _ = dsf.simulate(system.slice(100, 256), u[:, 100:], carried)
print(f"\n{dsf.explain(system)}")
print(f"one run against two with the state carried: {(torch.cat([first, second], 1) - y).abs().max():.1e}")

# %% train it for a few steps
torch.manual_seed(0)
layer = dsf.Mixer(mine, d_model=16, heads=2)
embed, head = torch.nn.Embedding(2, 16), torch.nn.Linear(16, 2)
parameters = [*layer.parameters(), *embed.parameters(), *head.parameters()]
optimiser = torch.optim.AdamW(parameters, lr=1e-2)
for step in range(61):
    bits = torch.randint(2, (32, 16))
    logits = head(layer(embed(bits))[0])
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), (bits.cumsum(1) % 2).flatten())
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    if step % 20 == 0:
        print(f"step {step:3d}  loss {loss.item():.3f}")
