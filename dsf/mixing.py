"""Does a module mix tokens along time? Asked of the module itself, on the input that it has in a run of its model.

Right after its call it runs twice more, the second time with one token changed: tokens further away that come out
otherwise have read it. A shift by one token alone, which feed-forward layers have too (RWKV), is no mixer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

LEAST = 4  # tokens: fewer do not tell a shift from a mixer
SEEN = {torch.float16: 1e-2, torch.bfloat16: 3e-2}  # of the largest output, what counts as a change; else 1e-4


class Mixing:
    """Asks the modules of one run, one per class and place in a repeated block, as one answers for the others.

    ran: paths of the modules that were called.
    """

    def __init__(self) -> None:
        self.ran: set[str] = set()
        self._answers: dict[tuple[str, type], bool | None] = {}
        self._sizes: tuple[int, ...] = ()  # batch and tokens
        self._asking = False

    def begin(self, args: tuple, kwargs: dict) -> None:
        """A run of the model on these inputs."""
        first = next((x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor) and x.dim() in (2, 3)), None)
        self._sizes = () if first is None or first.shape[1] < LEAST else tuple(first.shape[:2])

    def ask(self, path: str, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Of a module that was just called on these arguments, unless it is asked from within another's answer."""
        if self._asking or _of_torch(module):
            return
        if _place(path, module) not in self._answers and (given := self._floating(args, kwargs)) is not None:
            self._asking = True
            try:
                self._answers[_place(path, module)] = self._mixes(module, args, kwargs, given)
            finally:
                self._asking = False

    @property
    def asking(self) -> bool:
        """Is what runs now a question, and no part of the model's run?"""
        return self._asking

    def answer(self, path: str, module: nn.Module) -> bool | None:
        """None where it was not called, or cannot be told."""
        return self._answers.get(_place(path, module)) if path in self.ran else None

    def mixers(self, module: nn.Module) -> list[str]:
        """Paths of the modules that mix: not the stacks, blocks and models around them, nor the parts inside them."""
        parts = dict(module.named_modules())
        found = [path for path, part in parts.items() if self.answer(path, part)]
        lists = [path for path, part in parts.items() if isinstance(part, (nn.ModuleList, nn.Sequential))]
        found = [path for path in found if not any(_around(path, other, lists) for other in found)]
        return [path for path in found if not any(inside(path, other) for other in found if other != path)]

    def _floating(self, args: tuple, kwargs: dict) -> torch.Tensor | None:
        """The argument to change, [B, T, features]; None where there is none, or where a call may change a cache."""
        values = [*args, *kwargs.values()]
        if not all(map(_plain, values)):
            return None
        right = (x for x in values if isinstance(x, torch.Tensor) and x.is_floating_point() and x.dim() == 3)
        return next((x for x in right if tuple(x.shape[:2]) == self._sizes), None)

    def _mixes(self, module: nn.Module, args: tuple, kwargs: dict, given: torch.Tensor) -> bool | None:
        at = given.shape[1] // 2
        other = given.clone()
        ramp = torch.linspace(-1, 1, given.shape[2], device=given.device).to(given.dtype).roll(1)
        other[:, at] = 8 * (given.std() + 1) * ramp - other[:, at]

        random = torch.get_rng_state()

        def run(x: torch.Tensor) -> list[torch.Tensor]:
            torch.set_rng_state(random)
            new = [x if y is given else y for y in args], {k: x if y is given else y for k, y in kwargs.items()}
            return self._outputs(module.forward(*new[0], **new[1]))

        try:
            with torch.no_grad(), torch.random.fork_rng([]), _evaluating(module):
                before, after = run(given.clone()), run(other)
        except Exception:  # it runs in the model; why it does not run alone is not asked here
            return None
        if not before or len(before) != len(after):
            return None
        far = torch.ones(given.shape[1], dtype=torch.bool, device=given.device)
        far[at : at + 2] = False
        changes = [((y - x)[:, far].abs().max() / x.abs().max()).item() for x, y in zip(before, after, strict=True)]
        return any(change > SEEN.get(given.dtype, 1e-4) for change in changes)

    def _outputs(self, x: Any) -> list[torch.Tensor]:
        """Tensors [B, T, ...] of what a module returned."""
        if isinstance(x, torch.Tensor):
            return [x.float()] * (x.is_floating_point() and tuple(x.shape[:2]) == self._sizes)
        parts = x.values() if isinstance(x, dict) else x if isinstance(x, (tuple, list)) else ()
        return [tensor for part in parts for tensor in self._outputs(part)]


def inside(path: str, outer: str) -> bool:
    """Is it the path of that module, or of one inside it?"""
    return path == outer or outer == "" or path.startswith(outer + ".")


def _around(path: str, other: str, lists: Iterable[str]) -> bool:
    """Is the other one inside it, with a stack between them, or it the model itself, or an item of a stack?"""
    if path == other or not inside(other, path):
        return False
    if path == "" or path.rpartition(".")[0] in lists:
        return True
    return any(inside(at, path) and inside(other, at) for at in lists)


def _place(path: str, module: nn.Module) -> tuple[str, type]:
    return re.sub(r"\d+", "#", path), type(module)


def _of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.")


def _plain(x: Any) -> bool:
    """Is it no object that a second call could find changed?"""
    if isinstance(x, dict):
        return all(map(_plain, x.values()))
    if isinstance(x, (tuple, list)):
        return all(map(_plain, x))
    return x is None or isinstance(x, (torch.Tensor, int, float, str))


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """While the block runs, nothing is dropped at random."""
    training = [part for part in module.modules() if part.training]
    try:
        for part in training:
            part.training = False
        yield
    finally:
        for part in training:
            part.training = True
