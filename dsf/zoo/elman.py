"""Elman's network, torch.nn.RNN: tanh of an affine map of input and state.

    y_t = tanh(u_t + R y_{t-1})      x_t = diag(s) R x_{t-1} + diag(s) u_t,  s = tanh(a) / a,  a = u_t + R y_{t-1}

u is the input's share of the pre-activation, W u + b. The secant form is exact, and shows the recurrence in A (A = 0
with drive tanh(a) is the same system). Source: elman1990.
"""

from dsf import Drive, I, Matrix, Param, Previous, System, architecture, diag, tanh_secant


@architecture("Elman", year=1990, cite="elman1990")
def elman(u=Drive, y=Previous, R=Param(Matrix)):
    gain = tanh_secant(u + R @ y)
    return System(A=diag(gain) @ R, B=diag(gain), C=I)
