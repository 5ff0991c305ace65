"""PyPI's `pusher` as the backend of an app: `backend.py PORT ID KEY SECRET`. Prints `ok NAME` for each step that went as it
should, and ends with 1 at the first that did not."""

import base64
import json
import sys
from contextlib import ExitStack

from pusher import Pusher
from websockets.sync.client import connect

PORT, APP_ID, KEY, SECRET = sys.argv[1:]
SOCKETS = ExitStack()
MASTER_KEY = base64.b64encode(bytes([7]) * 32).decode()


def backend(secret=SECRET):
    return Pusher(
        app_id=APP_ID,
        key=KEY,
        secret=secret,
        host="127.0.0.1",
        port=int(PORT),
        ssl=False,
        encryption_master_key_base64=MASTER_KEY,
    )


def client():
    """A client, and its socket id."""
    socket = SOCKETS.enter_context(connect(f"ws://127.0.0.1:{PORT}/app/{KEY}?protocol=7"))
    greeting = json.loads(socket.recv(10))
    return socket, json.loads(greeting["data"])["socket_id"]


def subscribe(socket, channel, **more):
    data = {"channel": channel, **more}
    socket.send(json.dumps({"event": "pusher:subscribe", "data": data}))
    answer = json.loads(socket.recv(10))
    assert answer["event"] == "pusher_internal:subscription_succeeded", answer
    return json.loads(answer["data"])


def an_event():
    socket, socket_id = client()
    subscribe(socket, "py-news")
    backend().trigger("py-news", "e", {"text": "<ä>"})
    event = json.loads(socket.recv(10))
    assert (event["event"], json.loads(event["data"])) == ("e", {"text": "<ä>"}), event
    # The connection that has asked for it is left out.
    backend().trigger("py-news", "left out", 1, socket_id)
    backend().trigger(["py-news", "py-other"], "last", 2)
    assert json.loads(socket.recv(10))["event"] == "last"


def a_batch():
    socket, _ = client()
    subscribe(socket, "py-a")
    subscribe(socket, "py-b")
    items = [{"channel": channel, "name": "e", "data": channel} for channel in ("py-a", "py-b")]
    backend().trigger_batch(items)
    assert [json.loads(socket.recv(10))["channel"] for _ in range(2)] == ["py-a", "py-b"]


def presence():
    socket, socket_id = client()
    auth = backend().authenticate("presence-py", socket_id, {"user_id": "1", "user_info": {}})
    roster = subscribe(socket, "presence-py", **auth)
    assert roster == {"presence": {"ids": ["1"], "hash": {"1": {}}, "count": 1}}, roster
    channels = backend().channels_info("presence-", ["user_count"])
    assert channels == {"channels": {"presence-py": {"user_count": 1}}}, channels
    info = backend().channel_info("presence-py", ["user_count", "subscription_count"])
    assert info == {"occupied": True, "user_count": 1, "subscription_count": 1}, info
    users = backend().users_info("presence-py")
    assert users == {"users": [{"id": "1"}]}, users


def a_user():
    socket, socket_id = client()
    data = backend().authenticate_user(socket_id, {"id": "py"})
    socket.send(json.dumps({"event": "pusher:signin", "data": data}))
    assert json.loads(socket.recv(10))["event"] == "pusher:signin_success"
    backend().send_to_user("py", "hello", {"n": 1})
    event = json.loads(socket.recv(10))
    assert event["channel"] == "#server-to-user-py", event
    # It has `terminate_user_connections` too, with a path that has no app: Pusher has no such path either.


def an_encrypted_event():
    socket, socket_id = client()
    auth = backend().authenticate("private-encrypted-py", socket_id)
    assert auth.pop("shared_secret")
    subscribe(socket, "private-encrypted-py", **auth)
    backend().trigger("private-encrypted-py", "e", {"secret": 7})
    data = json.loads(json.loads(socket.recv(10))["data"])
    assert set(data) == {"nonce", "ciphertext"}, data


def another_secret():
    try:
        backend("another").trigger("py-news", "e", 1)
    except Exception as error:
        assert "auth_signature" in str(error), error
    else:
        raise AssertionError("the request was accepted")


for step in (an_event, a_batch, presence, a_user, an_encrypted_event, another_secret):
    with SOCKETS:
        step()
    print("ok", step.__name__)
