// The client of a Waterwheel hub, for browsers and Node.js 20. Its use stands in waterwheel.d.ts.

// Ids are EPOCH:NUMBER or EPOCH:NUMBER-PLACE, and ascend. Those of two epochs are not compared.
function isOld(id, since) {
	const [a, b] = [id, since].map(it => `${it}`.split(/[:-]/));
	return a[0] === b[0] && a[1] - b[1] <= 0 && (a[1] !== b[1] || BigInt(a[2] ?? 0) <= BigInt(b[2] ?? 0));
}
const byId = (a, b) => isOld(b, a) - isOld(a, b);

const toExpression = it => (it[1] ? it : it === "*" ? ".*" : it === "?" ? "." : `\\${it}`);

const failure = (text, code) => Object.assign(Error(text), { code });
const ignore = () => {};

function call(callback, ...values) {
	try {
		callback?.(...values);
	} catch (error) {
		console.error(error);
	}
}

export function Waterwheel(url = ".", { token, onError = console.warn, WebSocket = globalThis.WebSocket, timing } = {}) {
	const ms = { answer: 10_000, silence: 40_000, better: 30_000, pauseMax: 10_000, wait: 25, ...timing };
	const base = new URL(url, import.meta.url).href.replace(/^ws/, "http").replace(/(\/ws)?\/*$/, "/");
	const newSocket = () => new WebSocket(`${base.replace("http", "ws")}ws`, "waterwheel.v1.json");
	const all = new Set(); // { name, callback, .., since }, where `since` moves with the messages.
	const listeners = new Set();
	let [state, failures, warnings, renewAt, refs] = [{ state: "idle" }, 0, 0, 0, 0];
	let link, endPause, syncTimer, lastToken;

	this.subscribe = (name, callback, options) => add({ ...options, name, callback });
	this.presence = (name, watcher) => add({ name, watcher });
	this.publish = async (topic, data = null, options) => {
		if (isOpen()) return (await ask(link, { ...options, publish: topic, data })).id;
		const init = { method: "POST", body: JSON.stringify(data), headers: { "Content-Type": "application/json" } };
		return (await request("publish", { ...options, topic }, init)).id;
	};
	this.onState = callback => {
		listeners.add(callback);
		call(callback, state);
		return () => listeners.delete(callback);
	};
	this.close = () => [all.clear(), sync()];

	const isOpen = () => link?.openedAt && !link.level && !link.signal.aborted;
	const warn = name => warnings++ || console.warn(`${name}: messages may be missing`);
	const report = (error, it) => call(it?.onError ?? onError, error, it?.name);

	function show(name, transport) {
		state = { state: name, transport };
		for (const listener of listeners) call(listener, state);
	}

	function add(it) {
		// For messages by another name.
		const pattern = it.name.replace(/\\.|\[\^|[*?.+^$(){}|]/g, toExpression);
		it.expression = RegExp(`^${pattern}$`, "s");
		all.add(it);
		sync();
		return () => {
			all.delete(it);
			if (isOpen() && ![...all].some(({ name }) => name === it.name)) ask(link, { unsubscribe: it.name });
			sync();
		};
	}

	function sync() {
		clearTimeout(syncTimer);
		syncTimer = setTimeout(() => {
			if (!link) run();
			else if (!all.size) [link.end(), endPause?.()];
			else if (link.level) link.end(link.level);
			else if (link.openedAt) join(link);
		});
	}

	async function run() {
		for (let level = 0; all.size; ) {
			const abort = new AbortController();
			const it = { level, signal: abort.signal, pending: 0, held: [], asked: new Map(), heardAt: Date.now() };
			const aborted = new Promise(resolve => (it.signal.onabort = resolve));
			it.end = next => {
				it.next ??= next;
				abort.abort();
				it.socket?.close();
				for (const [, reject] of it.asked.values()) reject(failure("disconnected"));
			};
			link = it;
			if (!state.transport) show("connecting");
			const ticker = setInterval(tick, ms.answer / 10, it);
			await Promise.race([aborted, [socket, stream, poll][level](it)]).catch(ignore);
			it.end();
			clearInterval(ticker);
			for (const one of all) if (one.live === it) advance(one, it.cursor);
			if (3000 < Date.now() - it.openedAt) failures = 0;
			level = it.next ?? (it.openedAt ? 3 : level + 1);
			if (level < 3 || !all.size) continue;
			level = 0;
			show("waiting");
			const pauseMs = Math.max(it.retryMs || 0, Math.random() * Math.min(ms.pauseMax, 100 * 2 ** failures++));
			await new Promise(resolve => setTimeout((endPause = resolve), pauseMs));
		}
		link = undefined;
		show("idle");
	}

	function open(it) {
		for (const one of all) watch(it, one);
		if (it.openedAt) return;
		it.openedAt = it.triedAt = Date.now();
		show("connected", ["websocket", "event stream", "long poll"][it.level]);
	}

	function tick(it) {
		const [now, { level, openedAt, heardAt }] = [Date.now(), it];
		if ((openedAt ? ms.silence : ms.answer) < now - heardAt) it.end();
		if (!openedAt || it.signal.aborted) return;
		if (!level && ms.silence - ms.answer < now - heardAt && !it.asked.size) ask(it, { presence: "" });
		if (token?.call && renewAt < now) level ? it.end(level) : join(it);
		if (!level || now - it.triedAt < ms.better) return;
		it.triedAt = now;
		if (!WebSocket) return level > 1 && it.end(1);
		const socket = newSocket();
		socket.onopen = () => socket.send("{}");
		socket.onmessage = () => [it.end(0), socket.close()];
		socket.onclose = () => level > 1 && it.end(1);
		setTimeout(() => socket.close(), ms.answer);
	}

	for (const event of ["online", "visibilitychange"]) globalThis.addEventListener?.(event, wake);
	function wake() {
		if (!link || globalThis.document?.visibilityState === "hidden") return;
		failures = 0;
		endPause?.();
		link.heardAt -= ms.silence - ms.answer;
	}

	async function socket(it) {
		await getToken();
		it.signal.throwIfAborted();
		const socket = (it.socket = newSocket());
		socket.onopen = () => join(it);
		socket.onmessage = ({ data }) => handle(it, JSON.parse(data));
		await new Promise(resolve => (socket.onclose = socket.onerror = resolve));
	}

	function ask(link, command) {
		link.socket.send(JSON.stringify({ ...command, ref: ++refs }));
		const answer = new Promise((...ends) => link.asked.set(refs, ends));
		answer.catch(ignore);
		return answer;
	}

	async function request(path, parameters, { headers, ...init }) {
		const pairs = Object.entries(parameters).flatMap(([name, values]) => [values ?? []].flat().map(value => [name, value]));
		const token = await getToken();
		headers = { ...headers, ...(token && { Authorization: `Bearer ${token}` }) };
		const response = await fetch(`${base}${path}?${new URLSearchParams(pairs)}`, { ...init, headers });
		if (response.ok) return headers.Accept ? response.body : response.json();
		if (response.status === 401) renewAt = 0;
		const code = { 400: "bad", 401: "unauthorized", 403: "forbidden" }[response.status];
		throw failure(await response.text(), code);
	}

	async function join(link) {
		const auth = await Promise.resolve(getToken()).catch(() => link.end());
		if (!link.level && auth !== link.auth) ask(link, { auth: (link.auth = auth) }).catch(report);
		await Promise.all(Array.from(all, it => it.link === link || joinOne(link, it)));
		const live = [...all].filter(it => it.live === link);
		return { topic: live.map(it => it.name), since: live.map(it => it.since).sort(byId)[0] };
	}

	// One by one: a refusal keeps no other out.
	async function joinOne(link, it) {
		const { name, since, latest } = it;
		it.link = link;
		link.pending++;
		try {
			const place = { since, latest: latest && 1, wait: 0 };
			const { cursor } = await (link.level ? page(link, name, place) : ask(link, { subscribe: name, since, latest }));
			if (!since && !latest) it.since = cursor;
			Object.assign(it, { cursor, latest: undefined });
		} catch (error) {
			if (!error.code || error.code === "unavailable") return link.end();
			it.link = undefined;
			report(error, it);
		}
		if (--link.pending) return;
		const added = [...all].filter(one => one.link === link && one.live !== link);
		for (const one of added) one.live = link;
		for (const message of link.held.splice(0).sort((a, b) => byId(a.id, b.id))) receive(link, message, link.level);
		for (const one of all) if (one.live === link) advance(one, one.cursor);
		for (const one of added) call(one.onSubscribed, one.since);
		if (!link.level) open(link);
	}

	function advance(it, cursor) {
		if (cursor && !isOld(cursor, it.since)) it.since = cursor;
	}

	// Of a long history it gets a part. The link that follows begins behind it.
	async function page(link, topic, place) {
		const answer = await request("poll", { topic, ...place }, link);
		for (const gap of answer.gap ?? []) receive(link, { gap });
		for (const message of answer.messages) handle(link, message);
		link.heardAt = Date.now();
		return answer;
	}

	async function poll(link) {
		for (let { topic, since } = await join(link); ; ) {
			open(link);
			link.cursor = since = (await page(link, topic, { since, wait: ms.wait })).cursor;
		}
	}

	async function stream(link) {
		const init = { signal: link.signal, headers: { Accept: "text/event-stream" } };
		const body = await request("events", { ...(await join(link)), envelope: 1 }, init);
		const reader = body.pipeThrough(new TextDecoderStream()).getReader();
		for (let rest = ""; ; ) {
			const { done, value } = await reader.read();
			if (done) return;
			link.heardAt = Date.now();
			const events = (rest + value).split("\n\n");
			rest = events.pop();
			for (const text of events) {
				const { id, data, retry, event } = Object.fromEntries([...text.matchAll(/^(\w+): ?(.*)/gm)].map(it => it.slice(1)));
				if (data) handle(link, data[0] === "{" ? JSON.parse(data) : { [event]: data, cursor: id });
				link.retryMs = +retry;
				link.cursor = id ?? link.cursor;
				if (id && !link.openedAt) open(link);
			}
		}
	}

	function handle(link, message) {
		const { ref, error, code, topic, id, gap, unsubscribed, reason } = message;
		const [resolve, reject] = link.asked.get(ref) ?? [];
		link.asked.delete(ref);
		link.heardAt = Date.now();
		if (resolve) return error ? reject(failure(error, code)) : resolve(message);
		if (id || gap) return receive(link, message);
		if (message.expired) renewAt = 0;
		if (error) report(failure(error, code));
		for (const it of all) {
			if (it.name === topic) note(it, message);
			if (it.name !== unsubscribed) continue;
			it.link = it.live = undefined;
			if (reason === "forced") all.delete(it);
			report(failure(`${unsubscribed}: ${reason}`, reason), it);
		}
	}

	function receive(link, message, isPage) {
		if (link.pending) return link.held.push(message);
		const { topic, id, gap, by, cursor } = message;
		const name = topic ?? gap;
		for (const it of all) {
			const isWanted = it.live === link && (it.name === by || it.expression.test(name));
			// It comes again.
			if (!isWanted || isOld(id ?? cursor, it.since) || (isPage && byId(it.cursor, id) < 0)) continue;
			it.since = id ?? it.since;
			gap ? call(it.onGap ?? warn, gap, message) : call(it.callback, message.data, message);
		}
		// One order: all before it has come. Pages have their own.
		if (!isPage) link.cursor = id ?? link.cursor;
	}

	function watch(link, it) {
		if (!it.watcher || it.link !== link) return;
		const answer = link.level ? request("presence", { topic: it.name }, link) : ask(link, { presence: it.name });
		answer.then(message => note(it, message), error => report(error, it));
	}

	function note(it, message) {
		const { present, joined, left } = message;
		const others = ({ user }) => (it.users ?? []).filter(other => other.user !== user);
		it.users = present ?? (joined ? [...others(joined), joined] : left ? others(left) : it.users);
		call(it.watcher, it.users, message);
	}

	// A function is asked again in the last third of its token's life.
	function getToken() {
		if (!token?.call) return token;
		if (Date.now() < renewAt) return lastToken;
		renewAt = Infinity;
		lastToken = (async () => token())();
		lastToken.then(text => {
			const { exp } = JSON.parse(atob(text.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
			renewAt = Date.now() + Math.max(5_000, ((1000 * exp - Date.now()) * 2) / 3);
		}).catch(ignore);
		lastToken.catch(() => (renewAt = Date.now() + 5_000));
		return lastToken;
	}
}
