"""One run of a module on example inputs, and copies of what its recurrences read and returned."""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from .checkpoint_files import CheckpointError
from .interception import intercepted, places, untouched
from .mixing import Mixing, inside
from .ranges import Ranges
from .sets import Interval

if TYPE_CHECKING:
    from .converter_registry import Converter


class ConversionError(ValueError):
    """A module, or its inputs, cannot be converted; the message says why and what to do."""


class Declined(Exception):
    """This call is no recurrence that dsf writes; the message says why. The rest of the model is converted."""


class StopForward(Exception):
    """Raised by a model that runs only as far as it is wanted (see dsf.layer_streaming)."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module, or of a function by a module: its arguments by name and its output (None before the call).

    `number` counts the calls at this path, `several` says that there are more than one. `ranges`: where the arguments
    lie for all inputs and all weights, as far as it is known (see dsf.ranges). Of a function: `outer`, what the module
    itself was called on.
    """

    path: str
    module: Any
    arguments: Mapping[str, Any]
    output: Any = None
    number: int = 0
    several: bool = False
    function: str | None = None
    ranges: Mapping[str, Interval] = field(default_factory=dict)
    outer: Mapping[str, Any] = field(default_factory=dict)

    def name(self, part: str = "") -> str:
        """The path of a part of this call: "rnn.layer0", of the module itself "layer0"."""
        path = f"{self.path}[{self.number}]" if self.several else self.path
        return ".".join(filter(None, (path, part)))

    @property
    def where(self) -> str:
        """The submodule in an error: its path and class."""
        return f"{self.path or 'the module'} ({type(self.module).__name__})"


class Recorder:
    """Records the calls of submodules with a converter, and of functions with a tap, while a module runs.

    declined: path -> why a call was not recorded. mixing: which of the other modules mix tokens along time.
    """

    def __init__(self, module: nn.Module, known: Mapping[str, Converter], taps: Mapping[str, Converter]):
        self.module, self.known, self.taps = module, known, taps
        self.calls: list[Call] = []
        self.declined: dict[str, str] = {}
        self.ranges = Ranges()
        self.mixing = Mixing()
        self._hooks: set[int] = set()  # ids of the handles
        self._stack: list[str] = []
        self._begun: dict[str, Call] = {}
        self._copies: dict[int, tuple[torch.Tensor, int, torch.Tensor]] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with ExitStack() as stack:
            for path, part in self.module.named_modules():
                for handle in self._hooked(path, part):
                    self._hooks.add(handle.id)
                    stack.callback(handle.remove)
            stack.enter_context(intercepted(places(self.module.modules(), self.taps), self._of_function))
            stack.enter_context(self.ranges)
            yield

    def _hooked(self, path: str, part: nn.Module) -> Iterator[Any]:
        yield part.register_forward_pre_hook(self._entering(path))
        yield part.register_forward_hook(self._leaving(), always_call=True)
        yield part.register_forward_hook(self._asking(path), with_kwargs=True)
        if path in self.known:
            yield part.register_forward_pre_hook(self._checking(path), with_kwargs=True)
            yield part.register_forward_hook(self._of_module(path), with_kwargs=True)

    def _entering(self, path: str) -> Callable:
        def hook(*_: Any) -> None:
            self._stack.append(path)

        return hook

    def _leaving(self) -> Callable:
        def hook(*_: Any) -> None:
            if self._stack:  # empty where a run that stops early unwinds
                self._stack.pop()

        return hook

    def _asking(self, path: str) -> Callable:
        def hook(module, args, kwargs, output):
            if self.mixing.asking:
                return
            self.mixing.ran.add(path)
            told = [*self.known, *self.declined, *(call.path for call in self.calls)]
            if not any(inside(other, path) for other in told):
                with self.ranges.paused():
                    self.mixing.ask(path, module, args, kwargs)

        return hook

    def _checking(self, path: str) -> Callable:
        found = self.known[path]

        def hook(module, args, kwargs):
            self.declined.pop(path, None)
            try:
                found.refuse_unknown(module.forward, f"{path or 'the module'} ({type(module).__name__})")
                arguments = found.arguments(module, module.forward, args, kwargs)
                if found.check is not None:
                    found.check(Call(path, module, arguments))
                ranges = {k: r for k, x in arguments.items() if (r := self.ranges.of(x)) is not None}
                kept = module if found.parts else frozen_copy(module, self.module, self._hooks)
                self._begun[path] = Call(path, kept, self._copied(arguments), ranges=ranges)
            except Declined as why:
                self._decline(path, why)

        return hook

    def _of_module(self, path: str) -> Callable:
        def hook(module, args, kwargs, output):
            if path not in self.declined:
                self.calls.append(replace(self._begun.pop(path), output=self._copied(output)))

        return hook

    def _of_function(self, name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
        if self.mixing.asking:
            return function(*args, **kwargs)
        path, found = self._stack[-1] if self._stack else "", self.taps[name]
        module = self.module.get_submodule(path)
        arguments = bound(function, args, kwargs)
        call = Call(path, module, arguments, function=name)
        with untouched(), self.ranges.paused():
            try:
                found.refuse_unknown(function, call.where)
                if found.check is not None:
                    found.check(call)
            except Declined as why:
                self._decline(path, why)
                return function(*args, **kwargs)
            ranges = {k: r for k, x in arguments.items() if (r := self.ranges.of(x)) is not None}
            call = replace(call, arguments=self._copied(arguments), ranges=ranges)
            output = found.alone(function, arguments) if found.alone else function(*args, **kwargs)
            self.calls.append(replace(call, output=self._copied(output)))
        return output

    def _decline(self, path: str, why: Declined) -> None:
        self.declined[path] = str(why).removeprefix(f"{path} ")  # the path stands before it already

    def _copied(self, x: Any) -> Any:
        """Copies: the model may go on to change these tensors in place (x += residual). One tensor is copied once."""
        if isinstance(x, torch.Tensor):
            if x.dim() != 4 or x.shape[1] != 1:
                return x.detach().clone()
            if id(x) not in self._copies or self._copies[id(x)][1] != x._version:  # a mask: the same in every layer
                self._copies[id(x)] = x, x._version, x.detach().clone()
            return self._copies[id(x)][2]
        if isinstance(x, dict):
            return {k: self._copied(v) for k, v in x.items()}
        return type(x)(map(self._copied, x)) if type(x) in (tuple, list) else x


def record(recorder: Recorder, example_inputs: Any) -> list[Call]:
    """Runs the module once, without gradients. Raises ConversionError where a check refuses, or the module fails."""
    args, kwargs = arguments_of(example_inputs)
    module = recorder.module
    recorder.mixing.begin(args, kwargs)
    try:
        with recorder(), torch.no_grad():
            module(*args, **kwargs)
    except StopForward:
        pass
    except (ConversionError, CheckpointError):
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}" + _in_half(module, args, kwargs)
        raise ConversionError(f"{type(module).__name__} fails on the example inputs: {what}") from error
    return numbered(recorder.calls)


def _in_half(module: nn.Module, args: tuple, kwargs: dict) -> str:
    """Where a module in half precision fails without dsf too: that another dtype may help."""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    if dtype not in (torch.float16, torch.bfloat16):
        return ""
    try:
        with torch.no_grad():
            module(*args, **kwargs)
    except Exception:
        name = str(dtype).removeprefix("torch.")
        return f". It fails so without dsf too, in {name}: try module.float(), on the command line --dtype float32"
    return ""


def numbered(calls: list[Call]) -> list[Call]:
    """The calls with their numbers at each path."""
    totals: dict[str, int] = {}
    for i, call in enumerate(calls):
        calls[i] = replace(call, number=totals.setdefault(call.path, 0))
        totals[call.path] += 1
    return [replace(call, several=totals[call.path] > 1) for call in calls]


def arguments_of(example_inputs: Any) -> tuple[tuple, dict]:
    """Positional and keyword arguments: of a dict, a tuple, or one value."""
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, tuple) and not isinstance(example_inputs, PackedSequence):
        return example_inputs, {}
    return (example_inputs,), {}


def bound(function: Callable, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Arguments by name, defaults and those of **kwargs included."""
    signature = signature_of(function)
    found = signature.bind(*args, **kwargs)
    found.apply_defaults()
    arguments = dict(found.arguments)
    for p in signature.parameters.values():
        if p.kind is p.VAR_KEYWORD:
            arguments |= arguments.pop(p.name)
    return arguments


_SIGNATURES: WeakKeyDictionary[types.FunctionType, dict[bool, inspect.Signature]] = WeakKeyDictionary()


def signature_of(function: Callable) -> inspect.Signature:
    """inspect.signature, read once: of a method by the function beneath, as methods are made anew at every call."""
    whole, method = getattr(function, "__func__", function), isinstance(function, types.MethodType)
    if not isinstance(whole, types.FunctionType):
        return inspect.signature(function)
    known = _SIGNATURES.setdefault(whole, {})
    if method not in known:
        known[method] = inspect.signature(function)
    return known[method]


def frozen_copy(module: nn.Module, whole: nn.Module, hooks: Collection[int]) -> nn.Module:
    """The module with copies of its tensors, without gradients: training the original on leaves it as it is.

    Other modules of the whole, which its attributes and hooks may lead to, are not copied. hooks: ids of those that the
    copy is without.
    """
    parts = list(module.modules())
    memo: dict[int, Any] = {id(other): other for other in whole.modules()}
    for part in parts:
        memo.pop(id(part), None)
    tensors = [*module.parameters(), *module.buffers(), *_tensors([vars(part) for part in parts])]
    memo |= {id(x): _detached(x) for x in tensors}
    copied = copy.deepcopy(module, memo)
    for part in copied.modules():
        for own in (part._forward_hooks, part._forward_pre_hooks):
            for number in own.keys() & set(hooks):
                del own[number]
    return copied


def _tensors(x: Any) -> Iterator[torch.Tensor]:
    """The tensors in a nest of lists, tuples and dicts: states that a module keeps, which may hold a graph."""
    if isinstance(x, torch.Tensor):
        yield x
    elif isinstance(x, (list, tuple, dict)):
        for part in x.values() if isinstance(x, dict) else x:
            yield from _tensors(part)


def _detached(x: torch.Tensor) -> torch.Tensor:
    y = x.detach().clone()
    return nn.Parameter(y, requires_grad=False) if isinstance(x, nn.Parameter) else y
