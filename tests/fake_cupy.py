"""An array module that stands in for CuPy: NumPy underneath, kernels emulated on a CPU, every transfer counted.

It records each operation that a pipeline requests of a GPU, and computes the same bits. It shows nothing of speed or of
a real GPU. The fixture `fake_cupy` puts it in the place of `cupy` and `cupyx`; kernels of `kernels.cuda` then
run their `.cu` sources, emulated:

    def test_a_frame_goes_up_once(fake_cupy):
        y = fake_cupy.asarray(plane)                         # "up" in fake_cupy.log, with its bytes
        fake_cupy.log.clear()
        run_frame(...)
        assert fake_cupy.count("launch") <= 12
        assert fake_cupy.count("down") == 1 and fake_cupy.count("wait") == 1
        assert fake_cupy.bytes("up") <= 1.1 * planes.nbytes

The log holds an `Event` for each upload ("up"), download ("down"), wait of the host ("wait": a synchronisation of a
stream or event, or a read of a value), launch of one of our kernels ("launch", by its name), launch of a CUDA graph
("graph"), work of a library ("library", by its name), and every other device operation ("array": fills, copies and
arithmetic of arrays, by their name).

It is stricter than CuPy where CuPy would be slow or silently wrong. Arrays accept neither NumPy arrays nor NumPy's
functions. A download into page-locked memory arrives when its stream is waited for, and fills it with 0xA5 until then.
Arguments of kernels must be of exactly the parameters' types. While a stream is captured, allocations, waits and the
loading of kernels are errors. Work of a library, such as an engine's, goes through `enqueue`, so that it is captured
too; it reaches the elements of an array by `at`.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.emulated_cuda import EmulatedModule

_OPERATORS = (
    "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "mod", "pow", "and", "or", "xor",
    "lt", "le", "gt", "ge", "eq", "ne", "iadd", "isub", "imul", "itruediv", "ior", "iand", "neg", "abs", "invert",
)  # fmt: skip
_REDUCTIONS = ("sum", "min", "max", "mean", "any", "all")
_UNTOUCHED = 0xA5
_STREAMS: "weakref.WeakValueDictionary[int, FakeStream]" = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class Event:
    """An operation requested of the GPU; `bytes` is 0 unless it is a transfer."""

    kind: str
    name: str = ""
    bytes: int = 0


class CompileException(Exception):  # noqa: N818
    """A source that does not compile."""


class FakeCupy(ModuleType):
    """The module itself; see the file's docstring.

    Args:
        folder: Where emulated kernels are kept once compiled.
        integrated: Whether the GPU shares the host's memory.
        falling: Run a kernel's threads and blocks in falling order.
        free_bytes: Initially free memory of the GPU.
        lazy: Do a stream's work as late as possible: when the host, or another stream through an event, waits for it.
            Code that relies on an order of streams or of the host without such a wait then gets wrong results.
    """

    def __init__(
        self,
        folder: Path,
        *,
        integrated: bool = False,
        falling: bool = False,
        free_bytes: int = 1 << 30,
        lazy: bool = False,
    ) -> None:
        super().__init__("cupy")
        self.folder, self.integrated, self.falling, self.free_bytes = folder, integrated, falling, free_bytes
        self.lazy = lazy
        self.log: list[Event] = []
        self.pooled = 0
        self._live: dict[int, weakref.ref[FakeArray]] = {}
        self._local = threading.local()
        self._default_stream = FakeStream(self, ptr=0)
        self._streams = 0
        self.ndarray = FakeArray
        for name in ("float16", "float32", "float64", "uint8", "uint16", "uint32", "uint64", "int32", "int64", "bool_"):
            setattr(self, name, getattr(np, name))
        compiler = SimpleNamespace(CompileException=CompileException)
        runtime = SimpleNamespace(
            getDevice=lambda: 0,
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda _: {"integrated": integrated, "name": b"emulated", "major": 8, "minor": 7},
            memGetInfo=lambda: (max(0, self.free_bytes - self.used), self.free_bytes),
            deviceSynchronize=self._default_stream.synchronize,
        )
        self.cuda = SimpleNamespace(
            compiler=compiler,
            runtime=runtime,
            Device=lambda _=0: _context(SimpleNamespace(id=0, synchronize=self._default_stream.synchronize)),
            Stream=self._make_stream,
            Event=lambda **_: FakeEvent(self),
            get_current_stream=self.current_stream,
        )
        self._pool = SimpleNamespace(
            free_all_blocks=self._free_pool,
            used_bytes=lambda: self.used - self.pooled,
            total_bytes=lambda: self.used,
            free_bytes=lambda: self.pooled,
        )
        self.RawModule = lambda **arguments: FakeRawModule(self, **arguments)
        self.__spec__ = ModuleSpec("cupy", None)

    def count(self, kind: str, name: str | None = None) -> int:
        """Count the log's events of a kind, and of a name if one is given."""
        return sum(one.kind == kind and name in (None, one.name) for one in self.log)

    def bytes(self, kind: str) -> int:
        """Add up the bytes of the log's events of a kind."""
        return sum(one.bytes for one in self.log if one.kind == kind)

    @property
    def used(self) -> int:
        """Bytes of arrays that are still referred to, or kept in a pool."""
        return self.pooled + sum(array().size_bytes for array in self._live.values() if array() is not None)

    def at(self, address: int) -> np.ndarray:
        """Return the elements of the array allocated at an address; for fakes of libraries."""
        array = self._live[address]()
        assert array is not None, "the array at this address is gone"
        return array.host if isinstance(array, FakeArray) else array

    def enqueue(self, name: str, work: Callable[[], None], stream: "FakeStream | int | None" = None) -> None:
        """Do a library's work on a stream, or on the one of an address: at once, or, while it is captured, later."""
        if isinstance(stream, int):
            stream = _STREAMS[stream]
        (stream or self.current_stream()).submit(Event("library", name), work)

    # Arrays.

    def empty(self, shape: Any, dtype: Any = np.float32, **_: Any) -> "FakeArray":
        array = np.empty(shape, dtype)
        array.reshape(-1).view(np.uint8)[...] = _UNTOUCHED
        return self._allocate(array)

    def zeros(self, shape: Any, dtype: Any = np.float32) -> "FakeArray":
        return self.full(shape, 0, dtype)

    def ones(self, shape: Any, dtype: Any = np.float32) -> "FakeArray":
        return self.full(shape, 1, dtype)

    def full(self, shape: Any, value: Any, dtype: Any = np.float32) -> "FakeArray":
        array = self.empty(shape, dtype)
        array.fill(value)
        return array

    def empty_like(self, array: "FakeArray", dtype: Any = None) -> "FakeArray":
        return self.empty(array.shape, dtype or array.dtype)

    def zeros_like(self, array: "FakeArray", dtype: Any = None) -> "FakeArray":
        return self.zeros(array.shape, dtype or array.dtype)

    def asarray(self, array: Any, dtype: Any = None) -> "FakeArray":
        if isinstance(array, FakeArray):
            return array if dtype in (None, array.dtype) else array.astype(dtype)
        if hasattr(array, "__cuda_array_interface__"):
            address, _ = array.__cuda_array_interface__["data"]
            return FakeArray(self, np.asarray(self.at(address)), array)
        host = np.array(array, dtype, order="C")
        device = self.empty(host.shape, host.dtype)
        device.set(host)
        return device

    array = asarray

    def ascontiguousarray(self, array: "FakeArray") -> "FakeArray":
        return array if array.flags.c_contiguous else array.copy()

    def asnumpy(self, array: "FakeArray") -> np.ndarray:
        return array.get()

    def copyto(self, to: "FakeArray", source: Any) -> None:
        to[...] = source

    def concatenate(self, arrays: Sequence["FakeArray"], axis: int = 0) -> "FakeArray":
        return self._compute("concatenate", lambda: np.concatenate([one.host for one in arrays], axis))

    def stack(self, arrays: Sequence["FakeArray"], axis: int = 0) -> "FakeArray":
        return self._compute("stack", lambda: np.stack([one.host for one in arrays], axis))

    def get_array_module(self, array: Any) -> ModuleType:
        return self if isinstance(array, FakeArray) else np

    def empty_pinned(self, shape: Any, dtype: Any = np.float32) -> np.ndarray:
        """Return page-locked memory of the host, whose size counts as used."""
        array = np.zeros(shape, dtype).view(PinnedArray)
        self._keep(array, array.__array_interface__["data"][0], array.nbytes)
        return array

    # Memory, streams.

    def get_default_memory_pool(self) -> SimpleNamespace:
        return self._pool

    def get_default_pinned_memory_pool(self) -> SimpleNamespace:
        return self._pool

    def current_stream(self) -> "FakeStream":
        """Return the stream on which this thread's work goes."""
        stack = getattr(self._local, "streams", None)
        return stack[-1] if stack else self._default_stream

    def modules(self) -> dict[str, Any]:
        """Return the modules that this one stands for, by name."""
        flags = SimpleNamespace(DEVICEMAP=2)
        driver = _module("pycuda.driver", host_alloc_flags=flags, pagelocked_empty=self._mapped)
        return {
            "cupy": self,
            "cupyx": _module("cupyx", empty_pinned=self.empty_pinned, zeros_pinned=self.empty_pinned),
            "pycuda": _module("pycuda", driver=driver, __path__=[]),
            "pycuda.driver": driver,
            "pycuda.autoprimaryctx": _module("pycuda.autoprimaryctx"),
        }

    def _mapped(self, shape: Any, dtype: Any, mem_flags: int) -> np.ndarray:
        assert mem_flags == 2
        return self.empty_pinned(shape, dtype)

    def _make_stream(self, **_: Any) -> "FakeStream":
        self._streams += 1
        return FakeStream(self, ptr=id(self) + self._streams)

    def _allocate(self, host: np.ndarray) -> "FakeArray":
        self._refuse_capture("an allocation")
        array = FakeArray(self, host)
        self._keep(array, array.data.ptr, host.nbytes)
        return array

    def _keep(self, array: Any, address: int, size: int) -> None:
        array.size_bytes = size
        self._live[address] = weakref.ref(array)
        weakref.finalize(array, self._pool_memory, 0 if self.integrated else size)

    def _pool_memory(self, size: int) -> None:
        self.pooled += size

    def _free_pool(self) -> None:
        self.pooled = 0

    def _compute(self, name: str, work: Callable[[], Any]) -> Any:
        """Compute a new array on the device."""
        self._refuse_capture(f"{name}, which allocates its result,")
        self.current_stream().submit(Event("array", name), lambda: None)
        self.current_stream().work_until()
        return self._allocate(np.array(work(), order="C"))

    def _refuse_capture(self, what: str) -> None:
        if self.current_stream().is_capturing():
            raise RuntimeError(f"{what} is not allowed while a stream is captured")


class PinnedArray(np.ndarray):
    """Page-locked memory of the host."""

    size_bytes = 0

    def get_device_pointer(self) -> int:
        return self.__array_interface__["data"][0]

    @property
    def base(self) -> "PinnedArray":
        return self


class FakeArray:
    """An array on the GPU that stands in; its elements are reached through CuPy's own calls, which are counted."""

    def __init__(self, cupy: FakeCupy, host: np.ndarray, owner: "FakeArray | None" = None) -> None:
        self._cupy, self.host, self._owner = cupy, host, owner
        self.size_bytes = 0

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    strides = property(lambda self: self.host.strides)
    flags = property(lambda self: self.host.flags)
    device = property(lambda _: SimpleNamespace(id=0))
    data = property(lambda self: SimpleNamespace(ptr=self.host.__array_interface__["data"][0]))
    T = property(lambda self: self._view(self.host.T))
    __cuda_array_interface__ = property(
        lambda self: {**self.host.__array_interface__, "data": (self.data.ptr, False), "version": 3}
    )
    __hash__ = None
    __array_priority__ = 1000

    def __len__(self) -> int:
        return len(self.host)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array is not allowed; use .get()")

    __array_ufunc__ = None

    def __getitem__(self, key: Any) -> "FakeArray":
        return self._view(self.host[key] if isinstance(key, tuple) and ... in key else self.host[_keep_axes(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        source = self._operand(value)
        self._submit("copy" if isinstance(value, FakeArray) else "fill", lambda: self.host.__setitem__(key, source))

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    __index__ = __int__

    def __iter__(self) -> Iterator["FakeArray"]:
        return (self[i] for i in range(len(self)))

    def item(self) -> Any:
        return self.get().item()

    def fill(self, value: Any) -> None:
        self[...] = value

    def copy(self) -> "FakeArray":
        return self._cupy._compute("copy", lambda: self.host)

    def astype(self, dtype: Any, copy: bool = True) -> "FakeArray":
        if not copy and self.dtype == dtype:
            return self
        return self._cupy._compute("astype", lambda: self.host.astype(dtype))

    def reshape(self, *shape: Any) -> "FakeArray":
        view = self.host.reshape(*shape)
        return self._view(view) if np.shares_memory(view, self.host) else self.copy().reshape(*shape)

    def ravel(self) -> "FakeArray":
        return self.reshape(-1)

    def view(self, dtype: Any) -> "FakeArray":
        return self._view(self.host.view(dtype))

    def transpose(self, *axes: Any) -> "FakeArray":
        return self._view(self.host.transpose(*axes))

    def set(self, host: np.ndarray, stream: "FakeStream | None" = None) -> None:
        assert isinstance(host, np.ndarray)
        assert host.shape == self.shape
        assert host.dtype == self.dtype
        # Pageable memory is copied before the call returns.
        content = host if isinstance(host, PinnedArray) else host.copy()
        used = stream or self._cupy.current_stream()
        used.submit(Event("up", "", self.nbytes), lambda: np.copyto(self.host, content))

    def get(
        self, stream: "FakeStream | None" = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True
    ) -> np.ndarray:
        result = np.empty(self.shape, self.dtype, order) if out is None else out
        assert result.shape == self.shape
        assert result.dtype == self.dtype
        used = stream or self._cupy.current_stream()
        used.submit(Event("down", "", self.nbytes), lambda: used.download(self.host, result))
        if blocking:
            used.synchronize()
        return result

    def _view(self, host: Any) -> "FakeArray":
        return FakeArray(self._cupy, host if isinstance(host, np.ndarray) else np.asarray(host), self)

    def _submit(self, name: str, work: Callable[[], Any]) -> None:
        self._cupy.current_stream().submit(Event("array", name), work)

    def _operand(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            raise TypeError(f"unsupported type numpy.ndarray {value.shape}; upload it first")
        return value.host if isinstance(value, FakeArray) else value


def _keep_axes(key: Any) -> Any:
    """Return an index that gives a view even where it names one element."""
    return (*key, ...) if isinstance(key, tuple) else (key, ...) if key is not ... else key


def _add_operators() -> None:
    def operator(name: str) -> Callable[..., Any]:
        def apply(self: FakeArray, *others: Any) -> Any:
            operands = [self._operand(one) for one in others]
            if name.startswith("i") and name != "invert":
                self._submit(name, lambda: getattr(self.host, f"__{name}__")(*operands))
                return self
            return self._cupy._compute(name, lambda: getattr(self.host, f"__{name}__")(*operands))

        return apply

    def reduction(name: str) -> Callable[..., Any]:
        def apply(self: FakeArray, *arguments: Any, **named: Any) -> Any:
            return self._cupy._compute(name, lambda: getattr(self.host, name)(*arguments, **named))

        return apply

    for name in _OPERATORS:
        setattr(FakeArray, f"__{name}__", operator(name))
    for name in _REDUCTIONS:
        setattr(FakeArray, name, reduction(name))


_add_operators()


class FakeStream:
    """A stream: work is done at once, but downloads arrive when it is waited for; captured work when it is launched.

    With `lazy` of its module all work is done when it is waited for.
    """

    def __init__(self, cupy: FakeCupy, *, ptr: int) -> None:
        self._cupy, self.ptr = cupy, ptr
        self._arriving: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting: deque[Callable[[], Any]] = deque()
        self.submitted = 0
        self._captured: list[tuple[Event, Callable[[], Any]]] | None = None
        _STREAMS[ptr] = self

    def __enter__(self) -> "FakeStream":
        local = self._cupy._local
        local.streams = [*getattr(local, "streams", []), self]
        return self

    def __exit__(self, *_: Any) -> None:
        self._cupy._local.streams.pop()

    def use(self) -> "FakeStream":
        self._cupy._local.streams = [self]
        return self

    def submit(self, event: Event, work: Callable[[], Any]) -> None:
        """Do work in the order of the stream."""
        if self._captured is not None:
            self._captured.append((event, work))
            return
        self._cupy.log.append(event)
        self._do(work)

    def _do(self, work: Callable[[], Any]) -> None:
        self.submitted += 1
        self._waiting.append(work)
        if not self._cupy.lazy:
            self.work_until()

    def work_until(self, position: int | None = None) -> None:
        """Do the work that was submitted, up to a position."""
        last = self.submitted if position is None else position
        while self._waiting and self.submitted - len(self._waiting) < last:
            self._waiting.popleft()()

    def download(self, device: np.ndarray, host: np.ndarray) -> None:
        """Copy what the device holds now to the host, where it is seen after the next wait."""
        content = device.copy()
        host[...] = np.frombuffer(bytes([_UNTOUCHED]) * host.itemsize, host.dtype)[0]
        self._arriving.append((host, content))

    def synchronize(self) -> None:
        if self._captured is not None:
            raise RuntimeError("a wait is not allowed while a stream is captured")
        self._cupy.log.append(Event("wait"))
        self.arrive()

    def arrive(self, position: int | None = None) -> None:
        """Do the work up to a position, and complete the pending downloads."""
        self.work_until(position)
        for host, content in self._arriving:
            np.copyto(host, content)
        self._arriving.clear()

    def record(self, event: "FakeEvent | None" = None) -> "FakeEvent":
        event = event or FakeEvent(self._cupy)
        event.record(self)
        return event

    def wait_event(self, event: "FakeEvent") -> None:
        assert event.stream is not None, "an event must be recorded before it is waited for"
        other, position = event.stream, event.position
        self._do(lambda: other.work_until(position))

    def is_capturing(self) -> bool:
        return self._captured is not None

    def begin_capture(self, mode: Any = None) -> None:  # noqa: ARG002
        self._captured = []

    def end_capture(self) -> "FakeGraph":
        assert self._captured is not None
        graph, self._captured = FakeGraph(self._cupy, self._captured), None
        return graph

    @property
    def done(self) -> bool:
        return not (self._arriving or self._waiting)


class FakeEvent:
    """An event of a stream."""

    def __init__(self, cupy: FakeCupy) -> None:
        self._cupy = cupy
        self.stream: FakeStream | None = None
        self.position = 0

    def record(self, stream: FakeStream | None = None) -> None:
        self.stream = stream or self._cupy.current_stream()
        self.position = self.stream.submitted

    def synchronize(self) -> None:
        assert self.stream is not None
        self._cupy.log.append(Event("wait"))
        self.stream.arrive(self.position)


class FakeGraph:
    """Captured work, repeated by one launch."""

    def __init__(self, cupy: FakeCupy, work: Sequence[tuple[Event, Callable[[], Any]]]) -> None:
        self._cupy = cupy
        self.events = tuple(event for event, _ in work)
        self._work = tuple(one for _, one in work)

    def launch(self, stream: FakeStream | None = None) -> None:
        used = stream or self._cupy.current_stream()
        used.submit(Event("graph"), lambda: [one() for one in self._work])

    def upload(self, stream: FakeStream | None = None) -> None:
        """Prepare a launch; does nothing here."""


class FakeRawModule:
    """CUDA C++, emulated on the CPU."""

    def __init__(self, cupy: FakeCupy, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc") -> None:
        assert isinstance(options, tuple)
        assert backend == "nvrtc"
        assert "--fmad=false" in options, "emulated arithmetic is not contracted"
        self._cupy, self._code = cupy, code
        self._module: EmulatedModule | None = None

    def compile(self, log_stream: Any = None) -> None:  # noqa: ARG002
        if self._module is None:
            self._cupy._refuse_capture("the loading of a module")
            try:
                self._module = EmulatedModule(self._code, self._cupy.folder)
            except RuntimeError as error:
                raise CompileException(str(error)) from error

    def get_function(self, name: str) -> "FakeKernel":
        self.compile()
        assert self._module is not None
        if name not in self._module.names:
            raise RuntimeError(f"named symbol not found: {name}")
        return FakeKernel(self._cupy, self._module, name)


class FakeKernel:
    """One kernel of a module; it runs emulated when it is called."""

    def __init__(self, cupy: FakeCupy, module: EmulatedModule, name: str) -> None:
        self._cupy, self._module, self.name = cupy, module, name
        self._signature = module.signature(name)
        self.num_regs = self.local_size_bytes = 0

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], *, shared_mem: int = 0
    ) -> None:
        assert shared_mem == 0, "dynamic shared memory is not emulated"
        assert 0 < np.prod(block) <= 1024
        assert all(grid)
        assert grid[0] < 2**31
        assert all(one < 2**16 for one in grid[1:])
        if len(args) != len(self._signature):
            raise TypeError(f"{self.name} takes {len(self._signature)} arguments ({self._signature}), got {len(args)}")
        values = [
            _as_bytes(self.name, place, code, value)
            for place, (code, value) in enumerate(zip(self._signature, args, strict=True))
        ]
        # Arrays must stay alive until the work is done, which with a graph may be much later.
        self._cupy.current_stream().submit(
            Event("launch", self.name), lambda: self._run(tuple(grid), tuple(block), values, args)
        )

    def _run(self, grid: tuple[int, ...], block: tuple[int, ...], values: list[bytes], _: tuple[Any, ...]) -> None:
        self._module.launch(self.name, grid, block, values, falling=self._cupy.falling)


_CODES = {"f": np.float32, "d": np.float64, "i": np.int32, "q": np.int64, "I": np.uint32, "Q": np.uint64}


def _as_bytes(kernel: str, place: int, code: str, value: Any) -> bytes:
    """Return an argument as its parameter's bytes; CuPy would silently pass the bytes of a different type."""
    if code == "P":
        if isinstance(value, FakeArray):
            return int(value.data.ptr).to_bytes(8, "little")
        if isinstance(value, np.uint64) and not value:
            return bytes(8)
    elif type(value) is _CODES[code]:
        return value.tobytes()
    raise TypeError(f"argument {place} of {kernel} is {type(value).__name__} {value!r}, expected {code}")


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__dict__.update(content)
    return module


@contextmanager
def _context(value: Any) -> Iterator[Any]:
    yield value
