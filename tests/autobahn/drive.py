"""Runs the Autobahn cases, in kosoku's edition, against a server or a client, and counts their verdicts.

A case passes when both its messages and its close were right. A verdict of NON-STRICT is right too,
unless --strict was given; INFORMATIONAL always is. UNIMPLEMENTED, which an extension that was not
negotiated gets, counts as skipped.
"""

import argparse
import asyncio
import os
import sys

from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver

# For all cases together: a peer that hangs is a failure and not a wait.
SECONDS_MAX = 900


async def ask(options):
    return await run_fuzzingclient(options.url, options.include or None, options.exclude or None)


async def serve(options):
    cases = run_fuzzingserver(
        options.include or None, options.exclude or None, host="127.0.0.1", port=0
    )
    async with cases as server:
        print(f"listening on ws://{server.address}:{server.port}", flush=True)
        return await server.get_result()


async def results_of(run):
    try:
        return await asyncio.wait_for(run, SECONDS_MAX)
    except FailureError as failure:
        return failure.results
    except asyncio.TimeoutError:
        print(f"no end after {SECONDS_MAX} seconds")
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
    options = parser.parse_args()

    right = {"OK", "INFORMATIONAL"} | (set() if options.strict else {"NON-STRICT"})
    passed, failed, skipped = 0, 0, 0
    run = serve(options) if options.serve else ask(options)
    for result in asyncio.run(results_of(run)):
        verdicts = {result.behavior.value, result.behavior_close.value}
        if verdicts <= right:
            passed += 1
        elif result.behavior.value == "UNIMPLEMENTED":
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
