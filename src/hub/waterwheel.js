// The client of a Waterwheel hub: see waterwheel.d.ts.

function isOld(id, since) {
	const [[a, n, at], [b, m, to = 0]] = [id, since].map(it => `${it}`.split(/[:-]|~.*/));
	if (a !== b || n !== m) return a === b && n - m < 0;
	return !at || BigInt.asUintN(64, BigInt(to) - BigInt(at)) < 4e9;
}
const byId = (a, b) => isOld(b, a) - isOld(a, b);

function bucketOf(topic = "") {
	let crc = 0;
	for (const byte of new TextEncoder().encode(topic.replace(/^[^{]*{([^}]+)}.*/s, "$1")))
		for (let n = 8; n--; ) crc = (crc << 1) ^ ((((crc >> 15) ^ (byte >> n)) & 1) * 4129);
	return crc & 15;
}
const own = (id, topic) => `${id}`.replace(/\d+\.[\d.]+/, all => all.split(".")[bucketOf(topic)]);
let index;
const merge = pick => (a, b) => {
	const from = `${a}`.split(/[:.~-]/);
	if (!b.startsWith(`${from[0]}:`)) from.length = 0;
	index = 0;
	return b.replace(/[:.]\d+/g, n => n[0] + pick(n.slice(1), from[++index] ?? 0));
};
const quote = it => (it[1] ? it : it === "*" ? ".*" : it === "?" ? "." : `\\${it}`);
const fault = (text, code) => Object.assign(Error(text), { code });
const { now } = Date;
const call = (callback, ...values) => (async () => callback?.(...values))().catch(console.error);

export function Waterwheel(url = ".", { token, onError = console.warn, WebSocket = globalThis.WebSocket, timing } = {}) {
	const ms = { answer: 1e4, silence: 4e4, better: 3e4, pauseMax: 1e4, wait: 25, ...timing };
	const base = new URL(url, import.meta.url).href.replace(/^ws/, "http").replace(/(\/ws)?\/*$/, "/");
	const connect = () => new WebSocket(`${base.replace("http", "ws")}ws`, "waterwheel.v1.json");
	const all = new Set();
	const views = new Set();
	let [state, fails, warned, renewAt, refs, link, resume, timer, triedAt, jwt] = [{ state: "idle" }, 0, 0, 0, 0];

	this.subscribe = (name, callback, options) => add({ ...options, name, callback });
	this.presence = (name, watcher) => add({ name, watcher });
	this.publish = async (topic, data = null, options) => {
		if (isUp() && link.openedAt) return (await ask(link, { ...options, publish: topic, data })).id;
		const body = new Blob([JSON.stringify(data)], { type: "application/json" });
		return (await request("publish", { ...options, topic }, { method: "POST", body })).id;
	};
	this.onState = callback => {
		views.add(callback);
		call(callback, state);
		return () => views.delete(callback);
	};
	this.close = () => all.forEach(it => it.end());

	const isUp = () => link?.socket?.readyState === 1 && !link.level;
	const warn = name => warned++ || console.warn(`${name}: messages may be missing`);
	const report = (error, it) => error.code?.at && call(it?.onError ?? onError, error, it?.name);

	function show(name, transport) {
		state = { state: name, transport };
		views.forEach(it => call(it, state));
	}

	function add(it) {
		it.pattern = RegExp(`^${it.name.replace(/\\.|\[\^|[*?.+^$(){}|]/g, quote)}$`, "s");
		all.add(it);
		sync();
		return (it.end = () => {
			all.delete(it);
			if (isUp() && ![...all].some(one => one.name === it.name)) ask(link, { unsubscribe: it.name });
			sync();
		});
	}

	function sync() {
		clearTimeout(timer);
		timer = setTimeout(() => {
			if (!link) run();
			else if (!all.size) [link.end(), resume?.()];
			else if (link.level) link.end(link.level);
			else if (isUp()) join(link);
		});
	}

	async function run() {
		for (let level = 0; all.size; ) {
			const abort = new AbortController();
			const it = { level, signal: abort.signal, pending: 0, held: [], asked: new Map(), heardAt: now() };
			it.end = next => {
				it.end = () => {};
				it.next = next;
				abort.abort();
				it.socket?.close();
				it.asked.forEach(([, reject]) => reject(fault("disconnected")));
			};
			link = it;
			if (!state.transport) show("connecting");
			const ticks = setInterval(tick, ms.answer / 10, it);
			await Promise.race([new Promise(resolve => (it.signal.onabort = resolve)), [socket, stream, poll][level](it)]).catch(() => {});
			it.end();
			clearInterval(ticks);
			all.forEach(one => one.live === it && advance(one, it.since));
			if (3e3 < now() - it.openedAt) fails = 0;
			level = it.next ?? (it.openedAt ? 3 : level + 1);
			if (level < 3 || !all.size) continue;
			level = 0;
			show("waiting");
			const pause = Math.max(it.retryMs || 0, Math.random() * Math.min(ms.pauseMax, 100 * 2 ** fails++));
			await new Promise(resolve => setTimeout((resume = resolve), pause));
		}
		link = null;
		show("idle");
	}

	function open(it) {
		for (const one of all) {
			if (!one.watcher || one.link !== it) continue;
			const answer = it.level ? request("presence", { topic: one.name }, it) : ask(it, { presence: one.name });
			answer.then(message => all.has(one) && it.level !== 1 && note(one, message), error => report(error, one));
		}
		if (it.openedAt || it.signal.aborted) return;
		it.openedAt = now();
		show("connected", ["websocket", "event stream", "long poll"][it.level]);
	}

	function tick(it) {
		const { level, openedAt } = it;
		if ((openedAt ? ms.silence : ms.answer) < now() - it.heardAt) return it.end();
		if (!openedAt) return;
		if (!level && ms.silence - ms.answer < now() - it.heardAt && !it.asked.size) ask(it, { presence: "" });
		if (token?.call && renewAt < now()) level ? it.end(level) : join(it);
		if (!level || now() - triedAt < ms.better) return;
		triedAt = now();
		if (!WebSocket) return level > 1 && it.end(1);
		const socket = (it.socket = connect());
		socket.onopen = () => socket.send("{}");
		socket.onmessage = () => it.end(0);
		socket.onclose = socket.onerror = () => level > 1 && it.end(1);
		setTimeout(() => socket.close(), ms.answer);
	}

	["online", "visibilitychange"].forEach(it => globalThis.addEventListener?.(it, wake));
	function wake() {
		if (globalThis.document?.hidden) return;
		fails = 0;
		resume?.();
		if (link?.openedAt && !link.level) link.heardAt = Math.min(link.heardAt, now() + ms.answer - ms.silence);
	}

	async function socket(it) {
		triedAt = now();
		await getToken();
		it.signal.throwIfAborted();
		const socket = (it.socket = connect());
		socket.onopen = () => join(it);
		socket.onmessage = ({ data }) => handle(it, JSON.parse(data));
		await new Promise(resolve => (socket.onclose = socket.onerror = resolve));
	}

	function ask(link, command) {
		link.socket.send(JSON.stringify({ ...command, ref: ++refs }));
		const answer = new Promise((...ends) => link.asked.set(refs, ends));
		answer.catch(() => {});
		return answer;
	}

	async function request(path, query, { headers, ...init }) {
		const pairs = Object.entries(query).flatMap(([name, values]) => [values ?? []].flat().map(value => [name, value]));
		const token = await getToken();
		if (token) headers = { ...headers, Authorization: `Bearer ${token}` };
		const response = await fetch(`${base}${path}?${new URLSearchParams(pairs)}`, { ...init, headers });
		if (response.ok) return headers?.Accept ? response.body : response.json();
		if (response.status === 401) renewAt = 0;
		throw fault(await response.text(), { 400: "bad", 401: "unauthorized", 403: "forbidden" }[response.status]);
	}

	async function join(link) {
		const auth = await getToken().catch(() => link.auth ?? link.end());
		if (!link.level && auth !== link.auth) ask(link, { auth: (link.auth = auth) }).catch(error => report(error, error.code && (link.again ??= renewAt = now() + 5e3)));
		await Promise.all(Array.from(all, it => it.link === link || joinOne(link, it)));
		const live = [...all].filter(it => it.live === link);
		const since = live.map(it => it.since).sort(byId).reduceRight(merge(Math.min), live[0]?.since)?.replace(/(\..*)[~-].*/, "$1");
		return { topic: live.map(it => it.name), since };
	}

	async function joinOne(link, it) {
		const { name, since, latest } = it;
		it.link = link;
		link.pending++;
		try {
			const place = { since, latest: latest && 1, wait: 0 };
			const { cursor } = await (link.level ? page(link, name, place) : ask(link, { subscribe: name, since, latest }));
			since || latest || (it.since = cursor);
			[it.cursor, it.latest] = [cursor];
		} catch (error) {
			if (!error.code?.at || error.code === "unavailable") return link.end();
			it.link = null;
			report(error, it);
		}
		if (--link.pending) return;
		const added = [...all].filter(one => one.link === link && one.live !== link && (one.live = link));
		link.held.splice(0).sort((a, b) => !a.gap - !b.gap || byId(own(a.id, a.topic), own(b.id, b.topic))).forEach(it => receive(link, it, link.level));
		all.forEach(it => it.live === link && advance(it, it.cursor));
		added.forEach(it => call(it.onSubscribed, it.since));
		if (!link.level) open(link);
	}

	const advance = (it, id) => id && !isOld(id, it.since) && (it.since = merge(Math.max)(it.since, id));

	async function page(link, topic, place) {
		const answer = await request("poll", { topic, ...place }, link);
		answer.gap?.forEach(gap => receive(link, { gap }));
		answer.messages.forEach(it => handle(link, it));
		link.heardAt = now();
		return answer;
	}

	async function poll(link) {
		for (let { topic, since } = await join(link); ; ) {
			open(link);
			link.since = since = (await page(link, topic, { since, wait: ms.wait })).cursor;
		}
	}

	async function stream(link) {
		const headers = { Accept: "text/event-stream" };
		const body = await request("events", { ...(await join(link)), envelope: 1 }, { ...link, headers });
		const reader = body.pipeThrough(new TextDecoderStream()).getReader();
		for (let rest = ""; ; ) {
			const { done, value } = await reader.read();
			if (done) return;
			link.heardAt = now();
			const events = (rest + value).split("\n\n");
			rest = events.pop();
			for (const text of events) {
				const { id, data, retry, event } = Object.fromEntries([...text.matchAll(/^(\w+): ?(.*)/gm)].map(it => it.slice(1)));
				if (data) handle(link, data[0] === "{" ? JSON.parse(data) : { [event]: data, cursor: id });
				link.retryMs = +retry;
				advance(link, id);
				if (id && !link.openedAt) open(link);
			}
		}
	}

	function handle(link, message) {
		const { ref, error, code, topic, id, gap, unsubscribed, reason } = message;
		const [resolve, reject] = link.asked.get(ref) ?? [];
		link.asked.delete(ref);
		link.heardAt = now();
		if (resolve) return error ? reject(fault(error, code)) : resolve(message);
		if (id || gap) return receive(link, message);
		if (message.expired) renewAt = 0;
		if (error) report(fault(error, code));
		for (const it of [...all]) {
			if (it.name === topic) note(it, message);
			if (it.name !== unsubscribed) continue;
			it.link = it.live = null;
			if (reason === "forced") it.end();
			report(fault(`${unsubscribed}: ${reason}`, reason), it);
		}
	}

	function receive(link, message, isPage) {
		if (link.pending) return link.held.push(message);
		const { gap, topic: name = gap, id, by, cursor } = message;
		const isPast = since => isOld(own(id ?? `${cursor}-1`, name), own(since, name));
		const bucket = id?.includes(".") && bucketOf(name);
		const take = merge((n, m) => (index === bucket + 1 ? n : m));
		for (const it of all) {
			if (it.live !== link || (it.name !== by && !it.pattern.test(name))) continue;
			if (isPast(it.since) || (isPage && id && !isPast(it.cursor))) continue;
			if (id) it.since = take(it.since, id);
			gap ? call(it.onGap ?? warn, gap, message) : call(it.callback, message.data, message);
		}
		if (!isPage) advance(link, id);
	}

	function note(it, message) {
		const { present, joined, left } = message;
		const rest = it.users?.filter(({ user }) => user !== (joined ?? left)?.user) ?? [];
		it.users = present ?? rest.concat(joined ?? []);
		call(it.watcher, it.users, message);
	}

	async function getToken() {
		if (!token?.call) return token;
		if (now() < renewAt) return jwt;
		renewAt = 1e99;
		jwt = (async () => token())();
		jwt.then(text => {
			const { exp } = JSON.parse(atob(text.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
			renewAt = now() + Math.max(5e3, (1e3 * exp - now()) / 1.5);
		}, () => (renewAt = now() + 5e3)).catch(() => {});
		return jwt;
	}
}
