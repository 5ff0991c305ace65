"""Combinations of the options of PyPI's websockets against an echo server: websockets_client.py URL."""

import itertools
import random
import sys

from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

random.seed(1)
LINES = "".join(f'{{"line": {line}, "on": true}}\n' for line in range(5000))
MESSAGES = ["", "a", LINES[:100], LINES[:1024], LINES[:5000], LINES[:70000], LINES[:70000], random.randbytes(3000)]

agreed, asked = 0, 0
options = itertools.product([False, True], [False, True], [None, 8, 9, 15], [None, True, 8, 9, 15])
for server_no_context, client_no_context, server_bits, client_bits in options:
    if client_bits == 8:
        # zlib has no window of 8 bits, so this client could not use it.
        continue
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover=server_no_context,
        client_no_context_takeover=client_no_context,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )
    with connect(sys.argv[1], extensions=[factory], compression=None, max_size=None, open_timeout=120) as socket:
        for message in MESSAGES:
            # In fragments, when there is something to cut.
            half = len(message) // 2
            socket.send([message[:half], message[half:]] if half else message)
            assert socket.recv() == message, (factory, len(message))
        asked += 1
        agreed += bool(socket.protocol.extensions)
print(f"{agreed} of {asked}")
