"""Runs the Autobahn cases, in kosoku's edition, against a server, and counts their verdicts.

A case passes when both its messages and its close were right. A verdict of NON-STRICT is right too,
unless --strict was given; INFORMATIONAL always is. UNIMPLEMENTED, which an extension that was not
negotiated gets, counts as skipped.
"""

import argparse
import asyncio
import os
import sys

from kosoku import FailureError, run_fuzzingclient

# For all cases together: a server that hangs is a failure and not a wait.
SECONDS_MAX = 900


async def results_of(options):
    run = run_fuzzingclient(options.url, options.include or None, options.exclude or None)
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
    parser.add_argument("url")
    parser.add_argument("-i", "--include", action="append", metavar="CASE")
    parser.add_argument("-x", "--exclude", action="append", metavar="CASE")
    parser.add_argument("--strict", action="store_true", help="NON-STRICT is a failure")
    options = parser.parse_args()

    right = {"OK", "INFORMATIONAL"} | (set() if options.strict else {"NON-STRICT"})
    passed, failed, skipped = 0, 0, 0
    for result in asyncio.run(results_of(options)):
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
