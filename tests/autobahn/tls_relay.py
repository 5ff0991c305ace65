"""TLS between the Autobahn cases, which speak it not, and the peer that they judge.

A relay passes on the bytes of both directions and the end of each connection: a peer that ends the connection at
the wrong moment, or not at all, is judged as without TLS. The TLS is that of Python, which is OpenSSL.
"""

import asyncio
import queue
import ssl
import threading
from urllib.parse import urlsplit

PIECE_BYTES = 64 * 1024


def client_context(authority):
    """Checks the server's certificate and its name."""
    return ssl.create_default_context(cafile=authority)


def server_context(certificate, key):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def pass_on(reader, writer):
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        # The other side is told by the end of its connection.
        pass
    finally:
        writer.close()


# The event loop itself holds tasks weakly.
connections = set()


async def relay(host, port, connect_with, listen_with, tell_port):
    async def accepted(reader, writer):
        connections.add(asyncio.current_task())
        try:
            await connected(reader, writer)
        finally:
            connections.remove(asyncio.current_task())

    async def connected(reader, writer):
        try:
            name = None if connect_with is None else host
            target = await asyncio.open_connection(host, port, ssl=connect_with, server_hostname=name)
        except OSError as error:
            print(f"no connection to {host}:{port}: {error}", flush=True)
            writer.close()
            return
        await asyncio.gather(pass_on(reader, target[1]), pass_on(target[0], writer))

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=listen_with)
    tell_port.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def start(url, connect_with=None, listen_with=None):
    """The port of a relay to the host and port of `url`, until the process ends."""
    tell_port = queue.SimpleQueue()
    parts = urlsplit(url)
    run = relay(parts.hostname, parts.port, connect_with, listen_with, tell_port)
    # In a thread of its own: the cases keep theirs busy.
    threading.Thread(target=asyncio.run, args=(run,), daemon=True).start()
    return tell_port.get()
