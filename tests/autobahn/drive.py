"""Runs the Autobahn cases, in kosoku's edition, against a server or a client, and counts their verdicts.

A case passes when both its messages and its close were right. A verdict of NON-STRICT is right too,
unless --strict was given; INFORMATIONAL always is. UNIMPLEMENTED, which an extension that was not
negotiated gets, counts as skipped, or with --require-deflate as failed.
"""

import argparse
import asyncio
import os
import sys
from urllib.parse import urlsplit

import tls_relay
from kosoku import FailureError, _caseindex, run_fuzzingclient, run_fuzzingserver

# For all cases together: a peer that hangs is a failure and not a wait.
SECONDS_MAX = 900


def accept_uncompressed_messages():
    """A peer may send a short message uncompressed after it has agreed to compression. This edition of the
    cases hands such a text to the cases of groups 12 and 13 as str, and they expect bytes."""
    _caseindex.initialize_shims()
    import case12_x_x

    def with_bytes(on_message):
        def wrapped(case, message, is_binary):
            if isinstance(message, str):
                message = message.encode("latin-1" if case.TESTDATA["binary"] else "utf-8")
            return on_message(case, message, is_binary)

        return wrapped

    for case in [*case12_x_x.Case12_X_X, *case12_x_x.Case13_X_X]:
        case.onMessage = with_bytes(case.onMessage)


async def ask(options):
    url = options.url
    if url.startswith("wss://"):
        port = tls_relay.start(url, connect_with=tls_relay.client_context(options.ca))
        url = f"ws://127.0.0.1:{port}{urlsplit(url).path}"
    return await run_fuzzingclient(url, options.include or None, options.exclude or None)


async def serve(options):
    cases = run_fuzzingserver(
        options.include or None, options.exclude or None, host="127.0.0.1", port=0
    )
    async with cases as server:
        url = f"ws://{server.address}:{server.port}"
        if options.certificate:
            listen_with = tls_relay.server_context(options.certificate, options.key)
            url = f"wss://127.0.0.1:{tls_relay.start(url, listen_with=listen_with)}"
        print(f"listening on {url}", flush=True)
        return await server.get_result()


async def results_of(run, seconds_max):
    try:
        return await asyncio.wait_for(run, seconds_max)
    except FailureError as failure:
        return failure.results
    except asyncio.TimeoutError:
        print(f"no end after {seconds_max} seconds")
    except ValueError as error:
        print(error)
    return []


def main():
    parser = argparse.ArgumentParser()
    side = parser.add_mutually_exclusive_group(required=True)
    side.add_argument("url", nargs="?", help="of the server that the cases are run against")
    side.add_argument("--serve", action="store_true", help="wait for a client, and run them against it")
    parser.add_argument("-i", "--include", action="append", metavar="CASE")
    parser.add_argument("-x", "--exclude", action="append", metavar="CASE")
    parser.add_argument("--strict", action="store_true", help="NON-STRICT is a failure")
    parser.add_argument("--require-deflate", action="store_true", help="UNIMPLEMENTED is a failure")
    parser.add_argument("--ca", metavar="FILE", help="the authority of the server's certificate, for wss://")
    parser.add_argument("--certificate", metavar="FILE", help="with --serve: wait for a client with TLS")
    parser.add_argument("--key", metavar="FILE", help="the key of the certificate")
    parser.add_argument("--seconds", type=int, default=SECONDS_MAX, help="for all cases together")
    options = parser.parse_args()
    accept_uncompressed_messages()

    right = {"OK", "INFORMATIONAL"} | (set() if options.strict else {"NON-STRICT"})
    passed, failed, skipped = 0, 0, 0
    run = serve(options) if options.serve else ask(options)
    for result in asyncio.run(results_of(run, options.seconds)):
        verdicts = {result.behavior.value, result.behavior_close.value}
        if verdicts <= right:
            passed += 1
        elif result.behavior.value == "UNIMPLEMENTED" and not options.require_deflate:
            skipped += 1
        else:
            failed += 1
            print(f"case {result.case_id}: {result.behavior.value}: {result.result}; "
                  f"close: {result.behavior_close.value} {result.result_close}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The suite's native part may abort while the interpreter takes itself down.
    os._exit(code)
