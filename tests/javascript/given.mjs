// A hub and a client for one test of the browser client.

import { test } from "node:test";
import { Waterwheel } from "../../src/hub/waterwheel.js";
import { Hub } from "./hub.mjs";

export const TIMING = { answer: 400, silence: 1000, better: 600, pauseMax: 200, wait: 0.5 };

// `until` waits for a condition; it guards against a hang and asserts no time.
export function given(name, run, options = {}) {
  test(name, { timeout: 60_000 }, async t => {
    const hub = await Hub.start();
    const states = [];
    const errors = [];
    const client = new Waterwheel(hub.url, { timing: TIMING, onError: error => errors.push(error), ...options });
    client.onState(({ state, transport }) => states.push(transport ?? state));
    const until = async condition => {
      while (!condition()) {
        t.signal.throwIfAborted(); // Or the process would not end after a test that timed out.
        await new Promise(resolve => setTimeout(resolve, 5));
      }
    };
    const on = transport => until(() => states.at(-1) === transport);
    try {
      await run({ hub, client, states, errors, until, on, t });
    } finally {
      client.close();
      hub.end();
    }
  });
}

export const numbers = count => Array.from({ length: count }, (_, index) => index);

// A JSON Web Token that ends at this second.
export const jwt = exp => `e30.${Buffer.from(JSON.stringify({ sub: "ada", exp })).toString("base64url")}.x`;
