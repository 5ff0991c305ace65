//! Files that are the same for everybody: the browser client with its types, and the script of the demo page.

use crate::protocol::http::Status;
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::server::router::Router;

/// The paths of the files, which pages of any origin may load.
pub(super) const PUBLIC_PATHS: &[&str] = &["/waterwheel.js", "/waterwheel.d.ts"];

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
    match PUBLIC_PATHS.contains(&file.path) {
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
