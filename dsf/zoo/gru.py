"""GRU, torch.nn.GRU: a leaky state whose leak and candidate read the previous output.

    x_t = diag(z) x_{t-1} + diag(1 - z) tanh(u_t + r (Ru y_{t-1} + bias))      y_t = x_t
    z, r = sigmoid(z_t + Rz y_{t-1}), sigmoid(r_t + Rr y_{t-1})

The signals z, r, u are the input's shares of the pre-activations, W u + b. Source: cho2014 (in the form of cuDNN and
torch, which multiplies r after Ru y).
"""

from dsf import Drive, I, Matrix, Param, Previous, System, Vector, architecture, diag, sigmoid, tanh


@architecture("GRU", year=2014, cite="cho2014")
def gru(
    z=Vector,
    r=Vector,
    u=Drive,
    y=Previous,
    Rz=Param(Matrix),
    Rr=Param(Matrix),
    Ru=Param(Matrix),
    bias=Param(Vector),
):
    z, r = sigmoid(z + Rz @ y), sigmoid(r + Rr @ y)
    return System(A=diag(z), B=diag(1 - z), C=I, u=tanh(u + r * (Ru @ y + bias)))
