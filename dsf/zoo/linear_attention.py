"""Linear attention, unnormalised: a sum of outer products.

    x_t = x_{t-1} + k_t u_t^T      y_t = q_t^T x_t

Feature maps go into q and k (elu + 1: pass elu(q) + 1), and `linear_attention.normalised()` divides by the run on
ones. Source: katharopoulos2020.
"""

from dsf import I, System, Vector, architecture


@architecture("Linear attention", year=2020, cite="katharopoulos2020")
def linear_attention(q=Vector, k=Vector):
    return System(A=I, B=k, C=q)
