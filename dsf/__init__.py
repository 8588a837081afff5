"""dsf: every sequence model as one dynamical system.

    x_t = A_t x_{t-1} + B_t u_t          y_t = C_t x_t + D_t u_t

Convert a model into A, B, C, D; look at it; analyse it; run it. `dsf.architectures()` is the way in.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from . import edits, features, sets
from .algebra import block, diag, outer
from .composites import Block, Composed, Product, Sum, Writes
from .definition import Architecture, architecture, architecture_named, architectures
from .discretize import bilinear, gbt, zoh
from .domains import (
    Ball,
    Domain,
    Drive,
    Each,
    First,
    Fixed,
    Gate,
    Index,
    LogDecay,
    Matrix,
    Param,
    Positive,
    Prefix,
    Previous,
    Scalar,
    Shared,
    Unit,
    UnitDisc,
    Vector,
    Window,
)
from .feedback import Feedback
from .functions import (
    decay,
    elementwise,
    elu,
    exp,
    inner,
    known,
    relu,
    relu_secant,
    sigmoid,
    softplus,
    sqrt,
    stack,
    tanh,
    tanh_secant,
)
from .linearization import linearize
from .operators import (
    Dense,
    Diagonal,
    DiagonalPlusLowRank,
    I,
    Identity,
    OneHotDiagonal,
    Operator,
    RealPart,
    Reflection,
    Scaled,
    Shift,
)
from .sets import Complex, Interval, LeftHalfPlane, Polar, Rectangle, annulus, arc, disc, inf
from .system import System
from .transforms import bidirectional, microsteps, normalised, parallel, series

# What lives above this package is imported when it is first asked for: name -> module.
_ABOVE = {
    "simulate": "dsf_kernels.dispatch",
    "explain": "dsf_kernels.dispatch",
    "Mixer": "dsf_kernels.layers",
    "convert": "dsf.conversion",
    "load_conversion": "dsf.saved_conversion",
    "converter": "dsf.converter_registry",
    "Core": "dsf.cores",
    "parity": "dsf_analysis.recognition",
    "recognizes": "dsf_analysis.recognition",
    "language": "dsf_analysis.languages.sources",
    "load_verdict": "dsf_analysis.saved_verdicts",
    "save_verdict": "dsf_analysis.saved_verdicts",
    "spectrum": "dsf_analysis.spectra",
    "plot_spectrum": "dsf_analysis.spectrum_plot",
    "horizon": "dsf_analysis.horizons",
    "Verdict": "dsf_analysis.verdicts",
}

if TYPE_CHECKING:
    from dsf_analysis.horizons import horizon
    from dsf_analysis.languages.sources import language
    from dsf_analysis.recognition import parity, recognizes
    from dsf_analysis.saved_verdicts import load_verdict, save_verdict
    from dsf_analysis.spectra import spectrum
    from dsf_analysis.spectrum_plot import plot_spectrum
    from dsf_analysis.verdicts import Verdict
    from dsf_kernels.dispatch import explain, simulate
    from dsf_kernels.layers import Mixer

    from .conversion import convert
    from .converter_registry import converter
    from .cores import Core
    from .saved_conversion import load_conversion


def __getattr__(name: str):
    if name not in _ABOVE:
        raise AttributeError(f"module 'dsf' has no attribute {name!r}")
    found = getattr(_import_module(_ABOVE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


__version__ = "0.1.0"
__all__ = [
    "annulus",
    "arc",
    "Architecture",
    "architecture",
    "architecture_named",
    "architectures",
    "Ball",
    "bidirectional",
    "bilinear",
    "Block",
    "block",
    "Complex",
    "Composed",
    "convert",
    "converter",
    "Core",
    "decay",
    "Dense",
    "diag",
    "Diagonal",
    "DiagonalPlusLowRank",
    "disc",
    "Domain",
    "Drive",
    "Each",
    "edits",
    "elementwise",
    "elu",
    "exp",
    "explain",
    "features",
    "Feedback",
    "First",
    "Fixed",
    "Gate",
    "gbt",
    "horizon",
    "I",
    "Identity",
    "Index",
    "inf",
    "inner",
    "Interval",
    "known",
    "language",
    "LeftHalfPlane",
    "linearize",
    "load_conversion",
    "load_verdict",
    "LogDecay",
    "Matrix",
    "microsteps",
    "Mixer",
    "normalised",
    "OneHotDiagonal",
    "Operator",
    "outer",
    "parallel",
    "Param",
    "parity",
    "plot_spectrum",
    "Polar",
    "Positive",
    "Prefix",
    "Previous",
    "Product",
    "RealPart",
    "recognizes",
    "Rectangle",
    "Reflection",
    "relu",
    "relu_secant",
    "save_verdict",
    "Scalar",
    "Scaled",
    "series",
    "sets",
    "Shared",
    "Shift",
    "sigmoid",
    "simulate",
    "softplus",
    "spectrum",
    "sqrt",
    "stack",
    "Sum",
    "System",
    "tanh",
    "tanh_secant",
    "Unit",
    "UnitDisc",
    "Vector",
    "Verdict",
    "Window",
    "Writes",
    "zoh",
]
