//! Files that are the same for everybody: the browser client with its types, and the script of the demo page.
//!
//! The browser client has at most 12,000 bytes as it stands, so its comments stand here.
//!
//! * Each subscription keeps a cursor, `since`, which moves with its messages. Subscriptions are asked for one by one, so
//!   that a refusal keeps no other out. While one is asked for, messages are held; then they are sorted, and each goes to
//!   the subscriptions that have not got it.
//! * An id is `EPOCH:NUMBER` or `EPOCH:NUMBER-PLACE`. Places of two nodes are at least 2^32 apart, and are not compared. A
//!   gap at the number of a cursor is told: it may be one of messages with places.
//! * In a cluster there are 16 numbers, and behind `~` the place of a message with a number, which is not compared. A
//!   message moves only the number of its own bucket in the cursors of its subscriptions: a replay has higher numbers of
//!   buckets that its own names are not in. The number of that bucket also says what a subscription has got, and sorts. The
//!   bucket of a topic is its CRC-16 modulo 16, as in the keys of Redis.
//! * The link has a cursor too. Everything before it has come for all live subscriptions, except by pages: each of these is
//!   of one subscription. A stream and a long poll begin with the lowest numbers of all.
//! * A page of a long history is a part. The link that follows begins behind it.
//! * A function that gives tokens is asked again in the last third of its token's life. After a refusal it is asked once more
//!   for each connection, because the hub ends a connection with many wrong tokens.
//! * A page that comes to the front leaves a WebSocket `answer` to say something. It never prolongs that time.
//! * An error of the hub has a code that is text (`code?.at`). An aborted request has a number there, and a connection that
//!   ends has none: these are told as states, not as errors.
//! * The list of users over an event stream is in the stream. The answer to `GET /presence` may be older, so that only its
//!   errors count there.
//! * The `end` of a link works once: a WebSocket of Node.js 20 that cannot connect reports an error, again when it is closed,
//!   and no close.
//! * 4129 is 0x1021, the polynomial of CRC-16 (XMODEM). A renewal at 1e99 ms is none.

use crate::protocol::http::Status;
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::server::router::Router;

/// Whether it is the path of a file that pages of any origin may load.
pub(super) fn is_path(path: &str) -> bool {
    matches!(path, "/waterwheel.js" | "/waterwheel.d.ts")
}

struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const FILES: [File; 3] = [
    File {
        path: "/waterwheel.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("waterwheel.js"),
    },
    File {
        path: "/waterwheel.d.ts",
        content_type: "text/plain; charset=utf-8",
        text: include_str!("waterwheel.d.ts"),
    },
    File {
        path: "/page.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("page.js"),
    },
];

/// Adds a route for each file.
pub(super) fn add_routes<S: 'static>(router: &mut Router<S>) {
    for file in FILES {
        let tag = entity_tag(file.text);
        router.get(file.path, move |request| {
            let reply = reply(&file, &tag, request);
            request.reply(reply);
        });
    }
}

fn reply<S: 'static>(file: &File, tag: &str, request: &Request<'_, '_, S>) -> Reply {
    let known = request.header("if-none-match").unwrap_or_default();
    let is_known = known
        .split(',')
        .any(|known| known.trim().trim_start_matches("W/") == tag);
    let reply = match is_known {
        true => Reply::new(Status::NOT_MODIFIED),
        false => Reply::new(Status::OK)
            .content_type(file.content_type)
            .body(file.text),
    };
    // `no-cache` keeps the file but asks each time whether it is the newest: a client of another version than its
    // hub would be hard to understand.
    let reply = reply
        .header("ETag", tag)
        .header("Cache-Control", "no-cache")
        .header("X-Content-Type-Options", "nosniff");
    match is_path(file.path) {
        true => reply.header("Access-Control-Allow-Origin", "*"),
        false => reply,
    }
}

/// The entity tag of a text: its FNV-1a hash, which stays the same from build to build.
fn entity_tag(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("\"{hash:016x}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most that the browser client may have, in bytes.
    const CLIENT_BYTES_MAX: usize = 12_000;

    #[test]
    fn the_browser_client_is_one_small_file() {
        let client = FILES[0].text;
        assert!(client.len() <= CLIENT_BYTES_MAX, "{} bytes", client.len());
        assert!(!client.contains("\nimport ") && !client.contains("import("));
    }
}
