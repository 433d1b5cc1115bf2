"""A GPU that is none: memory with bounds, and a stream that does nothing until someone waits for it.

Work put on the stream is kept and done in order by synchronize(), so that reading a result too early reads stale
bytes. While a capture is under way work goes into the graph instead, and is done only when that is launched.
"""

import numpy as np


class FakeMachine:
    """name and sm as the driver would give them; gpus 0 for a machine without one."""

    def __init__(self, name="Orin", sm=(8, 7), gpus=1):
        self.name, self.sm, self.gpus = name, sm, gpus
        self._blocks: dict[int, np.ndarray] = {}  # address -> bytes, device and pinned alike
        self.device_blocks: set[int] = set()
        self.queue: list = []
        self.recording: list | None = None
        self.launched = self.captured = self.waits = 0
        self.streams: set[int] = set()

    def allocate(self, nbytes: int, device: bool) -> int:
        assert nbytes > 0, "an empty allocation"
        block = np.full(nbytes + 256, 0xCD, np.uint8)
        start = -block.ctypes.data % 256  # aligned, as CUDA's
        address = block.ctypes.data + start
        self._blocks[address] = block[start : start + nbytes]
        if device:
            self.device_blocks.add(address)
        return address

    def release(self, address: int) -> None:
        assert address in self._blocks, "freed what was never allocated, or twice"
        del self._blocks[address]
        self.device_blocks.discard(address)

    def bytes_at(self, address: int, nbytes: int, device: bool | None = None) -> np.ndarray:
        """A view of nbytes from address on; AssertionError unless all of it was allocated (on that side)."""
        for start, block in self._blocks.items():
            if start <= address and address + nbytes <= start + len(block):
                assert device is None or (start in self.device_blocks) == device, "memory of the other side"
                return block[address - start : address - start + nbytes]
        raise AssertionError(f"{nbytes} bytes at {address:#x} are not inside one allocation")

    def new_stream(self) -> int:
        self.streams.add(0x5EED + len(self.streams))
        return max(self.streams)

    def enqueue(self, stream: int, work) -> None:
        assert stream in self.streams, "not a stream of this machine (0 is the default stream: slow with TensorRT)"
        (self.queue if self.recording is None else self.recording).append(work)

    def begin(self) -> None:
        assert self.recording is None, "already capturing"
        self.recording = []

    def end(self) -> list:
        assert self.recording is not None, "not capturing"
        graph, self.recording = self.recording, None
        self.captured += 1
        return graph

    def launch(self, graph: list) -> None:
        assert self.recording is None
        self.queue.extend(graph)
        self.launched += 1

    def synchronize(self) -> None:
        assert self.recording is None, "synchronising is not permitted while a stream is captured"
        self.waits += 1
        work, self.queue = self.queue, []
        for step in work:
            step()

    def copy(self, stream: int, target: int, source: int, nbytes: int, to_device: bool) -> None:
        into = self.bytes_at(target, nbytes, device=to_device)
        out_of = self.bytes_at(source, nbytes, device=not to_device)  # the host side has to be pinned

        def work():
            into[:] = out_of

        self.enqueue(stream, work)
