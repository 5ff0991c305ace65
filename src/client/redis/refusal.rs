//! The meaning of errors that a server answers.

/// Most characters of an error of the server that are shown.
const ERROR_CHARS_MAX: usize = 200;

/// Whether a server has refused a command because of the connection, and would refuse the next one too.
pub(super) fn is_of_connection(text: &str) -> bool {
    text.starts_with("NOAUTH") || text.starts_with("LOADING")
}

/// Whether a server has refused a command because it is a replica. Before Redis 7 a script puts words before it.
pub(super) fn is_of_replica(text: &str) -> bool {
    text.starts_with("READONLY") || text.contains("-READONLY ")
}

pub(super) fn not_a_master(role: &str) -> String {
    format!("the server is not a master but a {}", one_line(role))
}

/// Whether a node of a cluster has refused a command because of the slot.
pub(super) fn is_of_slot(text: &str) -> bool {
    let word = text.split(' ').next();
    word.is_some_and(|word| ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"].contains(&word))
}

/// Whether a server has refused `HELLO` because it does not know it.
pub(super) fn is_without_resp3(text: &str) -> bool {
    text.starts_with("ERR unknown command") || text.starts_with("NOPROTO")
}

/// The text of an error as a part of one line in a log, which a server cannot break.
pub(super) fn one_line(text: &str) -> String {
    let shown = text.chars().take(ERROR_CHARS_MAX);
    shown
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect()
}
