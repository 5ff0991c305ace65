//! `GET /metrics`: the counters of the hub as Prometheus reads them.
//!
//! In a group of reactors the numbers are the sums of all reactors. All labels are words of this program: no
//! part of them comes from a client, so their number is bounded.

use crate::reactor::reactor::Reactor;
use crate::reactor::stats::{Gauges, Stats};
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::access::Access;
use super::engine::Answers;
use super::exposition::{Exposition, MEDIA_TYPE};
use super::guesses;
use super::parts::Parts;
use super::process::ProcessUse;

/// The numbers of one reactor.
#[derive(Clone, Debug)]
struct Snapshot {
    stats: Stats,
    gauges: Gauges,
}

impl Snapshot {
    fn of<S: 'static>(reactor: &Reactor<S>) -> Snapshot {
        Snapshot {
            stats: reactor.stats().clone(),
            gauges: reactor.gauges(),
        }
    }
}

/// Answers with the metrics, for a client that may publish.
pub(super) fn metrics<S: 'static>(
    request: &mut Request<'_, '_, S>,
    access: &Access,
    hub: &Parts<S>,
) {
    if let Err(denied) = guesses::check_administration(request, access, "/metrics") {
        return guesses::refuse(request, denied, &hub.guesses);
    }
    let responder = request.reply_later();
    let mut parts = Exposition::default();
    push_redis(hub, &mut parts);
    push_certificates(hub, &mut parts);
    hub.engine.ask_all(
        request.cx(),
        |cx| Snapshot::of(cx.reactor),
        move |reactor, answers| {
            let process = match reactor.is_simulated() {
                true => ProcessUse::default(),
                false => ProcessUse::read(),
            };
            let history_bytes = reactor.with_history(|history| history.bytes());
            let text = reply(answers, history_bytes, process).into_text() + &parts.into_text();
            let reply = Reply::from(text).content_type(MEDIA_TYPE);
            reactor.reply(responder, reply);
        },
    );
}

fn reply(answers: Answers<Snapshot>, history_bytes: usize, process: ProcessUse) -> Exposition {
    let mut all = Snapshot {
        stats: Stats::default(),
        gauges: Gauges::default(),
    };
    let mut out = Exposition::default();
    out.begin(
        "waterwheel_build_info",
        "gauge",
        "The version of waterwheel.",
    );
    let version = env!("CARGO_PKG_VERSION");
    out.sample("waterwheel_build_info", &[("version", version)], 1);
    out.gauge(
        "waterwheel_reactors",
        "Reactors that have answered and are in these numbers.",
        answers.answers.len(),
    );
    out.gauge(
        "waterwheel_reactors_missing",
        "Reactors that have ended, or did not answer within a second: their numbers are left out.",
        answers.missing_count,
    );
    for answer in answers.answers {
        all.stats.add(&answer.stats);
        all.gauges.add(&answer.gauges);
    }
    push_connections(&all, &mut out);
    push_messages(&all.stats, &mut out);
    push_held(&all.gauges, history_bytes, &mut out);
    push_loop(&all.stats, &mut out);
    push_process(process, &mut out);
    out
}

/// Numbers about Redis, where it is the engine.
#[cfg(feature = "redis")]
fn push_redis<S: 'static>(hub: &Parts<S>, out: &mut Exposition) {
    let Some(numbers) = hub.engine.redis_numbers() else {
        return;
    };
    out.gauge(
        "waterwheel_redis_links",
        "Links to Redis, one for each reactor.",
        numbers.links,
    );
    out.gauge(
        "waterwheel_redis_links_ready",
        "Links to Redis that have caught up.",
        numbers.ready,
    );
    for (name, help, count) in [
        (
            "waterwheel_redis_lost_total",
            "Links to Redis that were lost, each a gap for the clients of its reactor.",
            numbers.lost,
        ),
        (
            "waterwheel_redis_epochs_total",
            "Epochs that have begun because Redis had lost messages, each a gap.",
            numbers.epochs,
        ),
        (
            "waterwheel_redis_unpublished_total",
            "Publications that Redis has not carried out, or has not said so.",
            numbers.unpublished,
        ),
        (
            "waterwheel_redis_left_out_total",
            "Messages of other programs that were left out: no text, too long, or no topic.",
            numbers.left_out,
        ),
    ] {
        out.counter(name, help, count);
    }
}

#[cfg(not(feature = "redis"))]
fn push_redis<S: 'static>(_: &Parts<S>, _: &mut Exposition) {}

/// How long the certificates of TLS are valid yet.
#[cfg(feature = "tls")]
fn push_certificates<S: 'static>(hub: &Parts<S>, out: &mut Exposition) {
    use std::time::SystemTime;

    let certificates = match &hub.options.tls {
        Some(tls) => tls.certificates(),
        None => return,
    };
    let name = "waterwheel_tls_certificate_expiry_seconds";
    let help = "Seconds until the certificate ends; below zero since it has ended.";
    out.begin(name, "gauge", help);
    let now = SystemTime::now();
    for certificate in certificates.iter() {
        let seconds = match certificate.expires_at().duration_since(now) {
            Ok(rest) => rest.as_secs_f64(),
            Err(since) => -since.duration().as_secs_f64(),
        };
        let file = label(&certificate.file().to_string_lossy());
        out.sample(name, &[("file", &file)], seconds.round());
    }
}

#[cfg(not(feature = "tls"))]
fn push_certificates<S: 'static>(_: &Parts<S>, _: &mut Exposition) {}

/// A text of the operator as the value of a label.
#[cfg(feature = "tls")]
fn label(text: &str) -> String {
    text.replace(['"', '\\', '\n'], "_")
}

fn push_connections(all: &Snapshot, out: &mut Exposition) {
    let Snapshot { stats, gauges } = all;
    let name = "waterwheel_connections";
    out.begin(name, "gauge", "Connections now, by what they are.");
    let connections = gauges.connections;
    for (kind, count) in [
        ("websocket", connections.websocket),
        ("event_stream", connections.event_stream),
        ("http", connections.http),
        ("stream", connections.stream),
        ("handshake", connections.handshake),
        ("lingering", connections.lingering),
    ] {
        out.sample(name, &[("kind", kind)], count);
    }
    out.counter(
        "waterwheel_connections_accepted_total",
        "Connections accepted.",
        stats.accepted,
    );
    out.counter(
        "waterwheel_requests_total",
        "HTTP requests, those for a WebSocket or an event stream included.",
        stats.requests,
    );
    let name = "waterwheel_closes_total";
    let help = "Connections that have ended, by close code and cause; code none where there is no WebSocket.";
    out.begin(name, "counter", help);
    for (code, cause, count) in stats.closes.iter() {
        out.sample(name, &[("code", code), ("cause", cause)], count);
    }
    let name = "waterwheel_handshakes_refused_total";
    let help = "WebSocket handshakes refused, and connections refused before their first request.";
    out.begin(name, "counter", help);
    let refused = stats.refused_handshakes;
    for (reason, count) in [
        ("address_limit", stats.address_refusals),
        ("origin", refused.origin),
        ("malformed", refused.malformed),
        ("unauthorized", refused.unauthorized),
        ("forbidden", refused.forbidden),
        ("not_found", refused.not_found),
        ("unavailable", refused.unavailable),
        ("other", refused.other),
        ("tls_on_plain_port", stats.tls_on_plain_port),
        (
            "proxy_header",
            stats.proxy_headers + stats.proxy_header_errors,
        ),
    ] {
        out.sample(name, &[("reason", reason)], count);
    }
    let name = "waterwheel_tls_handshakes_total";
    out.begin(name, "counter", "TLS handshakes that were done.");
    for (kind, count) in [
        ("full", stats.tls_handshakes),
        ("resumed", stats.tls_resumptions),
    ] {
        out.sample(name, &[("kind", kind)], count);
    }
    let name = "waterwheel_tls_failures_total";
    out.begin(name, "counter", "TLS handshakes that failed, by reason.");
    for (reason, count) in stats.tls_failures.iter() {
        out.sample(name, &[("reason", reason)], count);
    }
    let name = "waterwheel_accept_pauses_total";
    out.begin(name, "counter", "How often accepting connections paused.");
    let others = stats.accept_pauses - stats.memory_pauses - stats.handshake_pauses;
    for (reason, count) in [
        ("memory", stats.memory_pauses),
        ("handshakes", stats.handshake_pauses),
        ("connections_or_descriptors", others),
    ] {
        out.sample(name, &[("reason", reason)], count);
    }
    out.counter(
        "waterwheel_wrong_tokens_total",
        "Wrong tokens that clients gave.",
        stats.wrong_tokens,
    );
}

fn push_messages(stats: &Stats, out: &mut Exposition) {
    out.counter(
        "waterwheel_messages_received_total",
        "WebSocket messages received.",
        stats.messages,
    );
    out.counter(
        "waterwheel_messages_sent_total",
        "Messages accepted into the queues of WebSockets, event streams and raw streams.",
        stats.sent_messages + stats.deliveries,
    );
    out.counter(
        "waterwheel_bytes_received_total",
        "Bytes read from sockets.",
        stats.received_bytes,
    );
    out.counter(
        "waterwheel_bytes_sent_total",
        "Bytes that the kernel took.",
        stats.sent_bytes,
    );
    out.counter(
        "waterwheel_publications_total",
        "Publications.",
        stats.publications,
    );
    out.counter(
        "waterwheel_deliveries_total",
        "Publications accepted into the queues of members, one for each member.",
        stats.deliveries,
    );
    let name = "waterwheel_drops_total";
    let help =
        "Messages that a full queue dropped, by its policy; with close the connection ended.";
    out.begin(name, "counter", help);
    let newest = stats.dropped - stats.dropped_oldest - stats.dropped_latest;
    for (policy, count) in [
        ("close", stats.slow_consumers),
        ("drop_newest", newest),
        ("drop_oldest", stats.dropped_oldest),
        ("latest_per_key", stats.dropped_latest),
    ] {
        out.sample(name, &[("policy", policy)], count);
    }
    out.counter(
        "waterwheel_rate_pauses_total",
        "How often reading paused because a client sent too many messages.",
        stats.rate_pauses,
    );
    out.counter(
        "waterwheel_deflated_messages_total",
        "WebSocket messages and publications that were compressed.",
        stats.deflated_messages,
    );
    out.counter(
        "waterwheel_deflate_saved_bytes_total",
        "Bytes that compressing those has saved.",
        stats.deflate_saved_bytes,
    );
    out.counter(
        "waterwheel_inflated_messages_total",
        "Compressed WebSocket messages received.",
        stats.inflated_messages,
    );
    let name = "waterwheel_resumes_total";
    let help = "Event streams and subscriptions with a cursor: whole, or with a gap that was told.";
    out.begin(name, "counter", help);
    for (outcome, count) in [("whole", stats.resumes), ("gap", stats.resumes_with_gap)] {
        out.sample(name, &[("outcome", outcome)], count);
    }
}

fn push_held(gauges: &Gauges, history_bytes: usize, out: &mut Exposition) {
    out.gauge(
        "waterwheel_queued_bytes",
        "Memory of all that is queued for connections.",
        gauges.queued_bytes,
    );
    out.gauge(
        "waterwheel_history_bytes",
        "Memory of the history, of all reactors together.",
        history_bytes,
    );
    out.gauge(
        "waterwheel_topics",
        "Topics with members; one with members on several reactors counts on each.",
        gauges.topics,
    );
    out.gauge(
        "waterwheel_subscriptions",
        "Subscriptions of all connections, to topics and patterns.",
        gauges.subscriptions,
    );
}

fn push_loop(stats: &Stats, out: &mut Exposition) {
    out.counter(
        "waterwheel_panics_total",
        "Panics caught in callbacks.",
        stats.panics,
    );
    out.counter(
        "waterwheel_callback_errors_total",
        "Errors that callbacks returned.",
        stats.callback_errors,
    );
    out.counter(
        "waterwheel_slow_callbacks_total",
        "Callbacks that took longer than slow_callback.",
        stats.slow_callbacks,
    );
    out.counter(
        "waterwheel_deferred_total",
        "Operations that were deferred to other threads.",
        stats.deferred,
    );
    out.counter(
        "waterwheel_deferred_refusals_total",
        "Operations that were refused because too many were under way.",
        stats.deferred_refusals,
    );
    out.counter(
        "waterwheel_file_refusals_total",
        "Files that were not sent because too many were open.",
        stats.file_refusals,
    );
    out.counter(
        "waterwheel_files_cut_total",
        "Connections that ended before the announced length of a file.",
        stats.files_cut,
    );
    out.histogram(
        "waterwheel_turn_seconds",
        "How long a turn of a reactor was busy, without its wait for events.",
        &stats.lag,
    );
    out.histogram(
        "waterwheel_callback_seconds",
        "How long a call of callbacks took; all messages of one read are one call.",
        &stats.callbacks,
    );
}

fn push_process(process: ProcessUse, out: &mut Exposition) {
    if let Some(seconds) = process.cpu_seconds {
        let help = "Processor time of the process, user and system.";
        out.counter("process_cpu_seconds_total", help, seconds);
    }
    let whole = |number: Option<u64>| number.map(|number| number as f64);
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Resident memory of the process.",
            whole(process.resident_bytes),
        ),
        (
            "process_virtual_memory_bytes",
            "Address space of the process.",
            whole(process.virtual_bytes),
        ),
        (
            "process_open_fds",
            "Open file descriptors.",
            whole(process.open_fds),
        ),
        (
            "process_max_fds",
            "Most open file descriptors that the process may have.",
            whole(process.max_fds),
        ),
        (
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970.",
            process.start_time_seconds,
        ),
    ] {
        if let Some(value) = value {
            out.gauge(name, help, value);
        }
    }
}
