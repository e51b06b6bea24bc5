"""Writes the bodies of upload requests to disk: in constant memory, outside the event loop, up to the declared size.

tuspyserver (4.4.3, MIT) was evaluated and rejected: after a crash it appends to the file although its recorded offset
is older, it takes a blocking file lock and writes in the event loop, reads the body before authentication, and takes
the host of the upload's URL from a header that clients control.
"""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect

from appliance.errors import UploadSpaceError
from appliance.web.errors import ApiError
from appliance.web.upload_store import Upload, UploadStore

# Size of one write, and of the data between two syncs.
_BLOCK_BYTES: Final = 1 << 20
_SYNC_EVERY_BYTES: Final = 64 << 20
_IDLE_TIMEOUT_S: Final = 60.0
CHECK_EVERY_S: Final = 5.0
_TAKE_OVER_S: Final = 10.0


@dataclass(slots=True)
class _ActiveWrite:
    """A request that is writing to an upload.

    `stop` asks it to end early, `ended` is set when the file is closed, `chunks` counts the received chunks.
    """

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    chunks: int = 0
    writing: bool = False


class UploadWriter:
    """Receives uploads; used from the event loop alone."""

    def __init__(self, uploads: UploadStore) -> None:
        self._uploads = uploads
        self._writers: dict[str, _ActiveWrite] = {}
        self._limiter: CapacityLimiter | None = None

    @property
    def busy(self) -> frozenset[str]:
        """The ids of the uploads that are being received."""
        return frozenset(self._writers)

    async def take_over(self, upload_id: str) -> None:
        """End a request that is still writing to an upload: a new one means that its connection was lost.

        Raises:
            ApiError: The old request does not end.
        """
        while (writer := self._writers.get(upload_id)) is not None:
            writer.stop.set()
            try:
                async with asyncio.timeout(_TAKE_OVER_S):
                    await writer.ended.wait()
            except TimeoutError:
                raise ApiError(423, "locked", "this upload is being written to; try again in a moment") from None

    async def receive(
        self, upload_id: str, owner: str, offset: int, body: AsyncIterator[bytes], *, is_allowed: Callable[[], bool]
    ) -> int:
        """Write a request body to an upload and return the number of bytes that are synced to disk.

        A lost or idle connection ends this without an error. Data received so far is kept in any case.

        Args:
            upload_id: The upload.
            owner: Its owner.
            offset: The position of the body in the file.
            body: The chunks of the body.
            is_allowed: Returns whether the sender is still authenticated; called regularly and at the end.

        Raises:
            UploadNotFoundError: This user has no such upload.
            ApiError: The offset is not the current one, the body is longer than declared, or the sender is no longer
                authenticated.
            UploadSpaceError: The disk reserve was reached.
        """
        await self.take_over(upload_id)
        # Without an await in between, so that the next request finds this one.
        writer = self._writers[upload_id] = _ActiveWrite()
        try:
            upload = await to_thread.run_sync(self._uploads.get, upload_id, owner)
            if upload.offset_bytes != offset:
                have = f"the offset is {upload.offset_bytes}, not {offset}; request it with HEAD and continue there"
                raise ApiError(409, "offset", have)
            return offset if upload.finished_at is not None else await self._write(upload, writer, body, is_allowed)
        finally:
            del self._writers[upload_id]
            writer.ended.set()

    async def _write(
        self, upload: Upload, writer: _ActiveWrite, body: AsyncIterator[bytes], is_allowed: Callable[[], bool]
    ) -> int:
        # Separate from the threads that serve pages, since writing may wait for the disk.
        self._limiter = self._limiter or CapacityLimiter(8)
        file = _File(self._uploads, upload)
        try:
            await self._run(file.open)
            await self._copy(file, writer, body, is_allowed)
            await self._check(is_allowed)
        finally:
            # Shielded: received data must be synced even if the request is cancelled.
            await asyncio.shield(asyncio.ensure_future(self._run(file.close)))
        return file.synced_bytes

    async def _check(self, is_allowed: Callable[[], bool]) -> None:
        if not await to_thread.run_sync(is_allowed):
            raise ApiError(401, "login_needed", "you are logged out; log in to continue the upload")

    async def _copy(
        self, file: "_File", writer: _ActiveWrite, body: AsyncIterator[bytes], is_allowed: Callable[[], bool]
    ) -> None:
        """Copy until the end, a lost or idle connection, or until another request takes over."""
        copying = asyncio.ensure_future(self._append(file, writer, body))
        stopped = asyncio.ensure_future(writer.stop.wait())
        try:
            seen, idle_s = -1, 0.0
            while not copying.done() and not stopped.done() and idle_s < _IDLE_TIMEOUT_S:
                idle_s = 0.0 if seen != writer.chunks else idle_s + CHECK_EVERY_S
                seen = writer.chunks
                await asyncio.wait((copying, stopped), timeout=CHECK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if not copying.done() and not stopped.done():
                    await self._check(is_allowed)
        finally:
            stopped.cancel()
            while writer.writing:  # in a thread, which cannot be cancelled
                await asyncio.wait((copying,), timeout=0.05)
            copying.cancel()
            await asyncio.wait((copying,))
        copying.result()

    async def _append(self, file: "_File", writer: _ActiveWrite, body: AsyncIterator[bytes]) -> None:
        block = bytearray()
        too_much = ended = False
        while not (ended or too_much):
            try:
                chunk = await anext(body, b"")
            except (ClientDisconnect, asyncio.CancelledError):
                chunk = b""
            writer.chunks += 1
            block += chunk
            missing = file.missing_bytes
            too_much, ended = len(block) > missing, not chunk
            del block[missing:]
            if block and (len(block) >= _BLOCK_BYTES or ended or too_much):
                writer.writing = True
                try:
                    await self._run(file.write, bytes(block))
                finally:
                    writer.writing = False
                block.clear()
        if too_much:
            raise ApiError(413, "too_much", "the upload is larger than declared; it was truncated")

    async def _run(self, call: object, *arguments: object) -> None:
        await to_thread.run_sync(call, *arguments, limiter=self._limiter)  # type: ignore[arg-type]


class _File:
    """The file of an upload, open for writing; used by one thread at a time."""

    def __init__(self, uploads: UploadStore, upload: Upload) -> None:
        self._uploads, self._upload = uploads, upload
        self._handle: int | None = None
        self._written = self.synced_bytes = upload.offset_bytes
        self._checked_at = 0.0

    @property
    def missing_bytes(self) -> int:
        """The number of missing bytes."""
        return self._upload.size_bytes - self._written

    def open(self) -> None:
        """Open the file at the last synced offset."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self._uploads.path(self._upload), flags, 0o600)
        self._handle = handle
        self._written = self.synced_bytes = min(self._written, os.fstat(handle).st_size)
        os.ftruncate(handle, self._written)
        os.lseek(handle, self._written, os.SEEK_SET)

    def write(self, block: bytes) -> None:
        """Append a block."""
        assert self._handle is not None
        if block and time.monotonic() - self._checked_at > 1.0:
            self._uploads.check_free_space(len(block))
            self._checked_at = time.monotonic()
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise UploadSpaceError(
                "the disk of the server is full; delete old jobs and files, or ask an administrator"
            ) from error
        self._written += len(block)
        self._uploads.bytes_received += len(block)
        if self._written - self.synced_bytes >= _SYNC_EVERY_BYTES:
            self._sync()

    def close(self) -> None:
        """Sync the received data and close the file."""
        if self._handle is None:
            return
        try:
            if self._written != self._upload.offset_bytes or self.synced_bytes != self._upload.offset_bytes:
                self._sync()
        finally:
            os.close(self._handle)
            self._handle = None

    def _sync(self) -> None:
        assert self._handle is not None
        os.fdatasync(self._handle)
        self.synced_bytes = self._written
        self._uploads.advance(self._upload, self.synced_bytes)
