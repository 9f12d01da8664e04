"""TLS without its socket: records in, bytes out, while the socket and its stamps stay with the connection."""

from __future__ import annotations

import ssl


class TlsSession:
    """TLS over bytes: the socket stays ours, and with it the kernel's stamps.

    A stamp is that of the read that completed a record; decrypting happens after it was taken.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._incoming, self._sending = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._sending, server_hostname=server_name)
        self.closed = False

    def feed(self, data: bytes) -> None:
        """Bytes from the server."""
        self._incoming.write(data)

    def outgoing(self) -> bytes:
        """Bytes for the server."""
        return self._sending.read()

    def handshake(self) -> bool:
        """True when the handshake is over. Raises ssl.SSLError, for a certificate that is not trusted too."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, data: bytes) -> bytes:
        """Application bytes as records."""
        self._object.write(data)
        return self._sending.read()

    def takes_note(self, data: bytes) -> bool:
        """True if these bytes are TLS's own (a session ticket), not an answer and not the end."""
        try:
            return not self.decrypt(data) and not self.closed
        except OSError:
            return False

    def decrypt(self, data: bytes) -> bytes:
        """The application bytes that these records complete. Raises ssl.SSLError."""
        self._incoming.write(data)
        pieces = []
        while True:
            try:
                piece = self._object.read(64 * 1024)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                self.closed = True
                break
            if not piece:
                self.closed = True
                break
            pieces.append(piece)
        return b"".join(pieces)
