"""A connection that breaks: passes bytes on, until a word is seen for the first time; then everything is cut."""

import contextlib
import socket
import threading


class BreakingProxy:
    """Listens on `address`. The first time a client sends `word`, all connections are reset, and the word is lost."""

    def __init__(self, target, word):
        host, port = target.rsplit(":", 1)
        self.target, self.word, self.breaks = (host, int(port)), word, 0
        self.open = []
        self.lock = threading.Lock()  # of `breaks` and `open`
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                client = self.listener.accept()[0]
                server = socket.create_connection(self.target)
                with self.lock:
                    self.open += [client, server]
                threading.Thread(target=self.send_on, args=(client, server), daemon=True).start()
                threading.Thread(target=self.receive, args=(client, server), daemon=True).start()

    def send_on(self, client, server):
        before = b""
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                # The word may lie across two reads.
                if self.word in before + data and self.cut():
                    return
                before = data[-len(self.word) :]
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def receive(self, client, server):
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    def cut(self):
        with self.lock:
            if self.breaks > 0:
                return False
            self.breaks += 1
            for connection in self.open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self.open.clear()
            return True

    def close(self):
        self.listener.close()
