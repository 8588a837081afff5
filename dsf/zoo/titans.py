"""Titans with a linear memory: gradient descent with momentum and weight decay on |M k - u|^2 at test time.

    s_t = eta s_{t-1} - theta grad      m_t = (1 - alpha) m_{t-1} + s_t      grad = 2 k (k^T m_{t-1} - u_t^T)
    x = [m; s]:  A = [[(1 - alpha) I - 2 theta k k^T, eta I], [-2 theta k k^T, eta I]],  B = 2 theta [k; k],  y = q^T m

Gates in [0, 1] allow 2 theta up to 2, beyond the stable regime 2 theta < (2 - alpha)(1 + eta).
Source: behrouz2025titans.
"""

from dsf import Gate, I, System, Unit, Vector, architecture, block, outer, stack


@architecture("Titans, linear memory", year=2025, cite="behrouz2025titans")
def titans(q=Vector, k=Unit, alpha=Gate, eta=Gate, theta=Gate):
    descent = 2 * theta * outer(k)
    A = block([[(1 - alpha) * I - descent, eta * I], [-descent, eta * I]])
    return System(A=A, B=stack(2 * theta * k, 2 * theta * k), C=stack(q, 0 * q))
