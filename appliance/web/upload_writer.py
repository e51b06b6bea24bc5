"""Writes the body of an upload request to the disk: in constant memory, off the event loop, cut off at its end.

tuspyserver was looked at for this (4.4.3, MIT) and not taken: it appends to whatever the file holds after a crash while
its offset is older, takes a blocking file lock and writes in the event loop, reads the body before it asks who sends
it, and takes the host of the upload's address from a header that anyone can set.
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

# Bytes gathered for one write, and bytes after which what came is made certain.
_BLOCK_BYTES: Final = 1 << 20
_SYNC_EVERY_BYTES: Final = 64 << 20
_SILENCE_S: Final = 60.0
CHECK_EVERY_S: Final = 5.0
_TAKE_OVER_S: Final = 10.0


@dataclass(slots=True)
class _ActiveWrite:
    """Who writes to an upload at the moment.

    `stop` asks to end early, `ended` is set when the file is closed, `chunks` counts what came.
    """

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    chunks: int = 0
    writing: bool = False


class UploadWriter:
    """The uploads that are coming in; used from the event loop alone."""

    def __init__(self, uploads: UploadStore) -> None:
        self._uploads = uploads
        self._writers: dict[str, _ActiveWrite] = {}
        self._limiter: CapacityLimiter | None = None

    @property
    def busy(self) -> frozenset[str]:
        """The ids of the uploads that are coming in."""
        return frozenset(self._writers)

    async def take_over(self, upload_id: str) -> None:
        """End a request that still writes to an upload: a new one means that the old connection was lost.

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
        """Write what comes, and give the offset up to which the file is certain.

        A connection that is lost or silent ends it without an error: what came is kept.

        Args:
            upload_id: The upload.
            owner: Whose it is.
            offset: Where what comes belongs.
            body: What comes.
            is_allowed: Tells, every few seconds and at the end, whether the sender is still let in.

        Raises:
            UploadNotFoundError: This user has no such upload.
            ApiError: The offset is not where the upload stands; or more came than it was to have, or the sender is
                no longer let in, and what belongs to it is kept.
            UploadSpaceError: The disk's reserve was reached; what came is kept.
        """
        await self.take_over(upload_id)
        # Nothing is awaited in between: whoever comes next finds this writer.
        writer = self._writers[upload_id] = _ActiveWrite()
        try:
            upload = await to_thread.run_sync(self._uploads.get, upload_id, owner)
            if upload.offset_bytes != offset:
                have = f"{upload.offset_bytes} bytes have arrived, not {offset}; ask with HEAD and go on from there"
                raise ApiError(409, "offset", have)
            return offset if upload.finished_at is not None else await self._write(upload, writer, body, is_allowed)
        finally:
            del self._writers[upload_id]
            writer.ended.set()

    async def _write(
        self, upload: Upload, writer: _ActiveWrite, body: AsyncIterator[bytes], is_allowed: Callable[[], bool]
    ) -> int:
        # Writing may wait for the disk; the threads that answer pages must not wait with it.
        self._limiter = self._limiter or CapacityLimiter(8)
        file = _File(self._uploads, upload)
        try:
            await self._run(file.open)
            await self._copy(file, writer, body, is_allowed)
            await self._check(is_allowed)
        finally:
            # Not to be cut short: what came has to be made certain even when the request is torn down.
            await asyncio.shield(asyncio.ensure_future(self._run(file.close)))
        return file.synced_bytes

    async def _check(self, is_allowed: Callable[[], bool]) -> None:
        if not await to_thread.run_sync(is_allowed):
            raise ApiError(401, "login_needed", "you are logged out; log in to continue the upload")

    async def _copy(
        self, file: "_File", writer: _ActiveWrite, body: AsyncIterator[bytes], is_allowed: Callable[[], bool]
    ) -> None:
        """Copy until the end, a lost connection, a silence, or until someone else wants to write."""
        copying = asyncio.ensure_future(self._append(file, writer, body))
        stopped = asyncio.ensure_future(writer.stop.wait())
        try:
            heard, silent_s = -1, 0.0
            while not copying.done() and not stopped.done() and silent_s < _SILENCE_S:
                silent_s = 0.0 if heard != writer.chunks else silent_s + CHECK_EVERY_S
                heard = writer.chunks
                await asyncio.wait((copying, stopped), timeout=CHECK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if not copying.done() and not stopped.done():
                    await self._check(is_allowed)
        finally:
            stopped.cancel()
            while writer.writing:  # a thread is at it, which nothing can end
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
            room = file.room
            too_much, ended = len(block) > room, not chunk
            del block[room:]
            if block and (len(block) >= _BLOCK_BYTES or ended or too_much):
                writer.writing = True
                try:
                    await self._run(file.write, bytes(block))
                finally:
                    writer.writing = False
                block.clear()
        if too_much:
            raise ApiError(413, "too_much", "more came than the upload was announced to have; it was cut off")

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
    def room(self) -> int:
        """The bytes that are still to come."""
        return self._upload.size_bytes - self._written

    def open(self) -> None:
        """Open the file at the offset that is certain."""
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
            self._uploads.check_room(len(block))
            self._checked_at = time.monotonic()
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise UploadSpaceError(
                "the disk of this box is full; remove old jobs and files, or ask an administrator"
            ) from error
        self._written += len(block)
        self._uploads.bytes_received += len(block)
        if self._written - self.synced_bytes >= _SYNC_EVERY_BYTES:
            self._sync()

    def close(self) -> None:
        """Make what came certain, and close."""
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
