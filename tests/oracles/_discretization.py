"""Dense discretisations of x' = A x + B u, for the oracles and for tests of dsf's structured ones."""

import torch


def zoh(A, B, dt):
    """Zero-order hold, exact for a piecewise constant input: A_d = exp(dt A), B_d = integral_0^dt exp(s A) ds B.

    Van Loan, "Computing integrals involving the matrix exponential" (IEEE TAC 1978): both are blocks of ONE
    exponential, exp(dt [[A, B], [0, 0]]) = [[A_d, B_d], [0, I]]. No inverse of A is taken, so a singular A is fine.
    A [..., n, n], B [..., n, m], dt a scalar tensor or number.
    """
    n, m = B.shape[-2:]
    below = torch.zeros(*B.shape[:-2], m, n + m, dtype=B.dtype, device=B.device)
    exponential = torch.linalg.matrix_exp(dt * torch.cat([torch.cat([A, B], dim=-1), below], dim=-2))
    return exponential[..., :n, :n], exponential[..., :n, n:]


def gbt(A, B, dt, alpha):
    """Generalised bilinear transform: alpha 0 is Euler, 1/2 bilinear (Tustin), 1 backward Euler.

        A_d = (I - alpha dt A)^-1 (I + (1 - alpha) dt A)        B_d = (I - alpha dt A)^-1 dt B

    Gu et al., "Combining recurrent, convolutional, and continuous-time models with linear state-space layers"
    (LSSL, arXiv 2110.13985), section 2, equation (3) (number recalled).
    """
    identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    implicit = identity - alpha * dt * A
    A_d = torch.linalg.solve(implicit, identity + (1 - alpha) * dt * A)
    B_d = torch.linalg.solve(implicit, dt * B)
    return A_d, B_d
