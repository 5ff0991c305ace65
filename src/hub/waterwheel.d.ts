/**
 * The client of a Waterwheel hub, for browsers and Node.js 20 or later.
 *
 * ```js
 * import { Waterwheel } from "/waterwheel.js";
 * const hub = new Waterwheel();
 * hub.subscribe("chat", data => console.log(data));
 * hub.publish("chat", "hello");
 * ```
 *
 * One connection carries all subscriptions: a WebSocket, else an event stream, else a long poll. While a lesser
 * transport delivers, a better one is tried every 30 seconds, and takes over when it has answered. After a break, and
 * on another transport, each subscription is resumed by its cursor: its callback gets each message once, in the order
 * of the topic, or `onGap` is called where messages may be missing.
 *
 * Pauses before an attempt are random, up to 100 ms after the first failure and up to 10 s later. `online` and
 * `visibilitychange` end a pause at once. A WebSocket that is silent for 30 seconds is asked a question, and left when
 * it does not answer within 10.
 */
export class Waterwheel {
  /**
   * @param url The address of the hub, `http:`, `https:`, `ws:` or `wss:`, also below a path. Relative to this module,
   * and without it the hub that the module was loaded from.
   */
  constructor(url?: string | URL, options?: Options);

  /**
   * Calls `callback` for each message of a topic, or of the topics that match a pattern such as `news.*`. It begins
   * with the next message, or where `options` say. Returns a function that ends the subscription.
   */
  subscribe(name: string, callback: (data: any, message: Message) => void, options?: SubscribeOptions): () => void;

  /**
   * Publishes JSON, and resolves to the id of the message. Over a WebSocket where one is open, otherwise by
   * `POST /publish`.
   *
   * Rejects with a {@link HubError}. Where the connection ended before the answer, the message may have been published.
   */
  publish(topic: string, data?: any, options?: { event?: string; key?: string }): Promise<string>;

  /**
   * Calls `callback` with the users of a topic with presence, and again when one joins or leaves. `message` is what
   * the hub sent: the snapshot, `joined`, `left`, or `count` where there are too many to list. On a long poll the
   * list is asked for with each poll. Returns a function that ends it.
   */
  presence(topic: string, callback: (users: User[], message: any) => void): () => void;

  /** Calls `callback` now and with each change. Returns a function that ends it. */
  onState(callback: (state: State) => void): () => void;

  /** Ends all subscriptions and the connection. */
  close(): void;
}

export interface Options {
  /**
   * The credential, or a function that returns one. A function is asked again in the last third of the life of a
   * JSON Web Token (its `exp`), and after a refusal.
   */
  token?: string | (() => string | Promise<string>);
  /**
   * Gets errors that belong to no subscription, or to one without `onError`. Default: `console.warn`. A connection that
   * breaks is no error, but a state.
   */
  onError?: (error: HubError, name?: string) => void;
  /** The class of WebSockets, for Node.js before 22; `null` for none. Default: the global one. */
  WebSocket?: any;
  /** Times for tests, in milliseconds, and `wait` of a long poll in seconds. */
  timing?: { answer?: number; silence?: number; better?: number; pauseMax?: number; wait?: number };
}

export interface SubscribeOptions {
  /** Where to begin: the id of a message, behind which it begins, or `"earliest"` for all that the hub keeps. */
  since?: string;
  /** Begins with the newest message of each key. */
  latest?: boolean;
  /**
   * The subscription is confirmed, and all that was missed has come; again after each break. `cursor` is the place in
   * the order up to which everything has come; good for `since`.
   */
  onSubscribed?: (cursor: string) => void;
  /** Messages of this topic may be missing before the next one. Default: one warning on the console. */
  onGap?: (topic: string, message: any) => void;
  /**
   * The hub refuses the subscription (`forbidden`, `unauthorized`, `bad`, `limit`) or has ended it (`expired`,
   * `forced`). All but `forced` are asked for again with the next connection, and when the subscriptions change.
   */
  onError?: (error: HubError, name: string) => void;
}

export interface Message {
  topic: string;
  /** An opaque place in the order of the hub; good for `since`. */
  id: string;
  event?: string;
  key?: string;
  /** The pattern by which the message came, where it came by a pattern only. */
  by?: string;
  data: any;
}

export interface User {
  user: string;
  info?: any;
  /** In a snapshot. */
  connections?: number;
}

export interface State {
  state: "idle" | "connecting" | "connected" | "waiting";
  /** While connected. */
  transport?: "websocket" | "event stream" | "long poll";
}

/** `code`: `bad`, `unauthorized`, `forbidden`, `limit`, `unavailable`, `expired`, `forced`, or none without an answer. */
export type HubError = Error & { code?: string };
