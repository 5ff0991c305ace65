"""An echo server with TLS, which prints its port: websockets_server.py CERTIFICATE KEY."""

import ssl
import sys

from websockets.sync.server import serve


def echo(socket):
    for message in socket:
        socket.send(message)


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(*sys.argv[1:])
with serve(echo, "127.0.0.1", 0, ssl=context, max_size=None) as server:
    print(server.socket.getsockname()[1], flush=True)
    server.serve_forever()
