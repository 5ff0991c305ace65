"""Messages of several lengths to an echo server over TLS: websockets_client.py URL AUTHORITY VERSION."""

import ssl
import sys

from websockets.sync.client import connect

url, authority, version = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.minimum_version = context.maximum_version = ssl.TLSVersion["TLSv" + version.replace(".", "_")]
MESSAGES = ["", "a", "b" * 125, b"c" * 126, "d" * 16384, b"e" * 65535, "f" * 65536, b"g" * 1_000_000]
try:
    with connect(url, ssl=context, max_size=None, open_timeout=60) as socket:
        # All of them are on their way before the first one is read.
        for message in MESSAGES:
            socket.send(message)
        for message in MESSAGES:
            assert socket.recv() == message, len(message)
        print(f"{socket.socket.version()}: {len(MESSAGES)} messages")
except ssl.SSLCertVerificationError as error:
    print(f"refused: {error}")
