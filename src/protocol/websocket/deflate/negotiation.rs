//! The handshake of permessage-deflate: what is offered, answered and agreed.
//!
//! Pure: elements of `Sec-WebSocket-Extensions` in, what was agreed out.
//!
//! | parameter | in an offer | in an answer |
//! |---|---|---|
//! | `server_no_context_takeover` | the server must agree or decline | the server keeps no window |
//! | `client_no_context_takeover` | a hint | the client must keep no window |
//! | `server_max_window_bits=N` | the server must agree or decline | at most what was offered |
//! | `client_max_window_bits[=N]` | the client can limit its window | with a value; only where it was offered |
//!
//! Windows have 2^8 to 2^15 bytes. Our compressor has none of 2^8, so an offer that demands one is declined, and a client
//! that is told to use one sends its messages uncompressed, which is always allowed. An inflater reads what any smaller
//! window has made, so the peer's window is never limited.
//!
//! Source: RFC 7692, sections 5 and 7.1.

use super::Deflate;

/// The name of the extension.
const NAME: &str = "permessage-deflate";

const SERVER_NO_CONTEXT: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT: &str = "client_no_context_takeover";
const SERVER_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_WINDOW_BITS: &str = "client_max_window_bits";

/// The largest window, in bits.
pub(super) const WINDOW_BITS_MAX: u8 = 15;

/// The smallest window that the compressor can use, in bits.
pub(super) const WINDOW_BITS_MIN: u8 = 9;

/// One direction of what was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Whether the sender may keep its window from one message to the next.
    pub keeps_window: bool,
    /// The largest window of the sender, in bits: 8 to 15.
    pub window_bits: u8,
}

impl Direction {
    /// Whether the window must be smaller than the largest.
    pub fn is_limited(self) -> bool {
        self.window_bits < WINDOW_BITS_MAX
    }
}

/// The compression to which client and server have agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// From the server to the client.
    pub server: Direction,
    /// From the client to the server.
    pub client: Direction,
}

/// The parameters of one offer or answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context: bool,
    client_no_context: bool,
    server_window_bits: Option<u8>,
    /// Present, and its value.
    client_window_bits: Option<Option<u8>>,
}

/// Takes the first offer that a server can accept, in the order of the client's preference. Returns what is agreed, and the
/// value of `Sec-WebSocket-Extensions` in the answer. `None` when nothing was offered that can be accepted; the connection
/// is then opened without compression.
///
/// `may_keep_window` is whether the server may keep its window: every message that it compresses must reach the client.
pub(crate) fn accept<'h>(
    deflate: Deflate,
    may_keep_window: bool,
    mut offers: impl Iterator<Item = &'h str>,
) -> Option<(Agreed, String)> {
    let keeps_windows = match deflate {
        Deflate::None => return None,
        Deflate::Shared => false,
        Deflate::Dedicated => true,
    };
    offers.find_map(|offer| {
        let offer = parse(offer, true)?;
        let server_bits = offer.server_window_bits.unwrap_or(WINDOW_BITS_MAX);
        if server_bits < WINDOW_BITS_MIN {
            return None;
        }
        let agreed = Agreed {
            server: Direction {
                keeps_window: keeps_windows && may_keep_window && !offer.server_no_context,
                window_bits: server_bits,
            },
            client: Direction {
                keeps_window: keeps_windows && !offer.client_no_context,
                window_bits: WINDOW_BITS_MAX,
            },
        };
        let mut answer = NAME.to_owned();
        if !agreed.server.keeps_window {
            put(SERVER_NO_CONTEXT, None, &mut answer);
        }
        if !agreed.client.keeps_window {
            put(CLIENT_NO_CONTEXT, None, &mut answer);
        }
        if offer.server_window_bits.is_some() {
            put(SERVER_WINDOW_BITS, Some(server_bits), &mut answer);
        }
        Some((agreed, answer))
    })
}

/// The value of `Sec-WebSocket-Extensions` in a client's request; `None` without compression.
///
/// A client that would keep its window makes a second offer, for servers that take no client's window and that do not
/// say so without being asked.
pub(crate) fn offer(deflate: Deflate) -> Option<String> {
    // A window without a value: the server may limit ours.
    let parameters: &[&[&str]] = match deflate {
        Deflate::None => return None,
        Deflate::Shared => &[&[SERVER_NO_CONTEXT, CLIENT_NO_CONTEXT, CLIENT_WINDOW_BITS]],
        Deflate::Dedicated => &[
            &[CLIENT_WINDOW_BITS],
            &[CLIENT_NO_CONTEXT, CLIENT_WINDOW_BITS],
        ],
    };
    let offers: Vec<String> = (parameters.iter())
        .map(|parameters| {
            let mut offer = NAME.to_owned();
            for parameter in *parameters {
                put(parameter, None, &mut offer);
            }
            offer
        })
        .collect();
    Some(offers.join(", "))
}

/// The answer is not one to what was [offered](offer): the client must close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadAnswer;

/// Checks the elements of `Sec-WebSocket-Extensions` in the answer to an [`offer`]. `Ok(None)` when the server has
/// declined.
///
/// # Errors
///
/// [`BadAnswer`] for another extension, two answers, and parameters that are invalid or not an answer to the offer.
pub(crate) fn check_answer<'h>(
    deflate: Deflate,
    may_keep_window: bool,
    mut answers: impl Iterator<Item = &'h str>,
) -> Result<Option<Agreed>, BadAnswer> {
    let Some(answer) = answers.next() else {
        return Ok(None);
    };
    if deflate == Deflate::None || answers.next().is_some() {
        return Err(BadAnswer);
    }
    let answer = parse(answer, false).ok_or(BadAnswer)?;
    if deflate == Deflate::Shared && !answer.server_no_context {
        return Err(BadAnswer);
    }
    let client_bits = answer.client_window_bits.flatten();
    Ok(Some(Agreed {
        server: Direction {
            keeps_window: !answer.server_no_context,
            window_bits: answer.server_window_bits.unwrap_or(WINDOW_BITS_MAX),
        },
        client: Direction {
            keeps_window: deflate == Deflate::Dedicated
                && may_keep_window
                && !answer.client_no_context,
            window_bits: client_bits.unwrap_or(WINDOW_BITS_MAX),
        },
    }))
}

fn put(name: &str, bits: Option<u8>, out: &mut String) {
    out.push_str("; ");
    out.push_str(name);
    if let Some(bits) = bits {
        out.push('=');
        out.push_str(&bits.to_string());
    }
}

/// The parameters of one element; `None` for another extension, and for parameters that are unknown, repeated or invalid.
///
/// Source: RFC 7692, section 7.1; RFC 6455, section 9.1.
fn parse(element: &str, is_offer: bool) -> Option<Parameters> {
    let mut parts = element.split(';').map(trim);
    if parts.next() != Some(NAME) {
        return None;
    }
    let mut parameters = Parameters::default();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (trim(name), Some(unquoted(trim(value)))),
            None => (part, None),
        };
        let is_new = match name {
            SERVER_NO_CONTEXT if value.is_none() => {
                !std::mem::replace(&mut parameters.server_no_context, true)
            }
            CLIENT_NO_CONTEXT if value.is_none() => {
                !std::mem::replace(&mut parameters.client_no_context, true)
            }
            SERVER_WINDOW_BITS => {
                let bits = window_bits(value?)?;
                parameters.server_window_bits.replace(bits).is_none()
            }
            CLIENT_WINDOW_BITS => {
                let bits = match value {
                    Some(value) => Some(window_bits(value)?),
                    None if is_offer => None,
                    None => return None,
                };
                parameters.client_window_bits.replace(bits).is_none()
            }
            _ => return None,
        };
        if !is_new {
            return None;
        }
    }
    Some(parameters)
}

/// A value that may stand in quotes. Source: RFC 6455, section 9.1.
fn unquoted(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    inner.unwrap_or(value)
}

/// A number from 8 to 15 without leading zeros. Source: RFC 7692, section 7.1.2.
fn window_bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        "10" => Some(10),
        "11" => Some(11),
        "12" => Some(12),
        "13" => Some(13),
        "14" => Some(14),
        "15" => Some(15),
        _ => None,
    }
}

fn trim(part: &str) -> &str {
    part.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn a_server_answers_offers() {
        let none: Option<&str> = None;
        let cases: &[(&str, &[&str], Option<&str>, Option<&str>)] = &[
            // name, offers, answer when shared, answer when dedicated
            ("none", &[], none, none),
            (
                "plain",
                &["permessage-deflate"],
                Some(SHARED),
                Some("permessage-deflate"),
            ),
            (
                "what browsers offer",
                &["permessage-deflate; client_max_window_bits"],
                Some(SHARED),
                Some("permessage-deflate"),
            ),
            (
                "spaces and tabs",
                &["permessage-deflate\t;  client_max_window_bits = 10 "],
                Some(SHARED),
                Some("permessage-deflate"),
            ),
            (
                "server without context",
                &["permessage-deflate; server_no_context_takeover"],
                Some(SHARED),
                Some("permessage-deflate; server_no_context_takeover"),
            ),
            (
                "client without context",
                &["permessage-deflate; client_no_context_takeover"],
                Some(SHARED),
                Some("permessage-deflate; client_no_context_takeover"),
            ),
            (
                "all of them",
                &[
                    "permessage-deflate; client_max_window_bits=8; server_max_window_bits=9; \
                   client_no_context_takeover; server_no_context_takeover",
                ],
                Some(
                    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9",
                ),
                Some(
                    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9",
                ),
            ),
            (
                "a value in quotes",
                &["permessage-deflate; server_max_window_bits=\"12\""],
                Some(
                    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
                ),
                Some("permessage-deflate; server_max_window_bits=12"),
            ),
            (
                "the second is taken where the first demands a window of 8 bits",
                &[
                    "permessage-deflate; server_max_window_bits=8",
                    "permessage-deflate",
                ],
                Some(SHARED),
                Some("permessage-deflate"),
            ),
            (
                "behind another extension",
                &[
                    "permessage-snappy",
                    "x-webkit-deflate-frame",
                    "permessage-deflate",
                ],
                Some(SHARED),
                Some("permessage-deflate"),
            ),
            (
                "only 8 bits",
                &["permessage-deflate; server_max_window_bits=8"],
                none,
                none,
            ),
            ("another name", &["Permessage-Deflate"], none, none),
            (
                "an unknown parameter",
                &["permessage-deflate; x"],
                none,
                none,
            ),
            ("an empty parameter", &["permessage-deflate;"], none, none),
            (
                "too small",
                &["permessage-deflate; server_max_window_bits=7"],
                none,
                none,
            ),
            (
                "too large",
                &["permessage-deflate; server_max_window_bits=16"],
                none,
                none,
            ),
            (
                "a leading zero",
                &["permessage-deflate; server_max_window_bits=010"],
                none,
                none,
            ),
            (
                "a sign",
                &["permessage-deflate; server_max_window_bits=+10"],
                none,
                none,
            ),
            (
                "no number",
                &["permessage-deflate; server_max_window_bits=x"],
                none,
                none,
            ),
            (
                "no value",
                &["permessage-deflate; server_max_window_bits"],
                none,
                none,
            ),
            (
                "an empty value",
                &["permessage-deflate; server_max_window_bits="],
                none,
                none,
            ),
            (
                "one quote",
                &["permessage-deflate; server_max_window_bits=\"10"],
                none,
                none,
            ),
            (
                "the client's too small",
                &["permessage-deflate; client_max_window_bits=7"],
                none,
                none,
            ),
            (
                "the client's empty",
                &["permessage-deflate; client_max_window_bits="],
                none,
                none,
            ),
            (
                "a value too many",
                &["permessage-deflate; server_no_context_takeover=1"],
                none,
                none,
            ),
            (
                "the client's too",
                &["permessage-deflate; client_no_context_takeover=\"\""],
                none,
                none,
            ),
            (
                "repeated",
                &["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
                none,
                none,
            ),
            (
                "the client's repeated",
                &["permessage-deflate; client_no_context_takeover; client_no_context_takeover"],
                none,
                none,
            ),
            (
                "bits repeated",
                &["permessage-deflate; server_max_window_bits=9; server_max_window_bits=9"],
                none,
                none,
            ),
            (
                "the client's bits repeated",
                &["permessage-deflate; client_max_window_bits; client_max_window_bits=9"],
                none,
                none,
            ),
        ];
        for (name, offers, shared, dedicated) in cases {
            let answer =
                |deflate| accept(deflate, true, offers.iter().copied()).map(|(_, answer)| answer);
            assert_eq!(
                answer(Deflate::Shared).as_deref(),
                *shared,
                "{name}, shared"
            );
            let answered = answer(Deflate::Dedicated);
            assert_eq!(answered.as_deref(), *dedicated, "{name}, dedicated");
            assert_eq!(answer(Deflate::None), None, "{name}");
        }
    }

    #[test]
    fn a_server_agrees_to_what_it_answers() {
        for server_no_context in ["", "; server_no_context_takeover"] {
            for client_no_context in ["", "; client_no_context_takeover"] {
                for server_bits in 8..=15_u8 {
                    for client_bits in 8..=15_u8 {
                        let offer = format!(
                            "permessage-deflate{server_no_context}{client_no_context}; \
                             server_max_window_bits={server_bits}; client_max_window_bits={client_bits}"
                        );
                        let (mode, offers) = (Deflate::Dedicated, [offer.as_str()].into_iter());
                        let Some((agreed, answer)) = accept(mode, true, offers) else {
                            assert_eq!(server_bits, 8);
                            continue;
                        };
                        let expected = Agreed {
                            server: Direction {
                                keeps_window: server_no_context.is_empty(),
                                window_bits: server_bits,
                            },
                            client: Direction {
                                keeps_window: client_no_context.is_empty(),
                                window_bits: 15,
                            },
                        };
                        assert_eq!(agreed, expected, "{offer}");
                        let answers = [answer.as_str()].into_iter();
                        assert_eq!(check_answer(mode, true, answers), Ok(Some(expected)));
                        let (agreed, _) =
                            accept(mode, false, [offer.as_str()].into_iter()).unwrap();
                        assert!(!agreed.server.keeps_window, "messages may be dropped");
                    }
                }
            }
        }
    }

    #[test]
    fn a_client_checks_the_answer() {
        let agreed = |server, server_bits, client, client_bits| {
            Ok(Some(Agreed {
                server: Direction {
                    keeps_window: server,
                    window_bits: server_bits,
                },
                client: Direction {
                    keeps_window: client,
                    window_bits: client_bits,
                },
            }))
        };
        let bad = Err(BadAnswer);
        let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let cases: &[(
            &[&str],
            Result<Option<Agreed>, BadAnswer>,
            Result<Option<Agreed>, BadAnswer>,
        )] = &[
            // answers, outcome when shared was offered, when dedicated was offered
            (&[], Ok(None), Ok(None)),
            (&["permessage-deflate"], bad, agreed(true, 15, true, 15)),
            (
                &[both],
                agreed(false, 15, false, 15),
                agreed(false, 15, false, 15),
            ),
            (
                &["permessage-deflate; server_no_context_takeover"],
                agreed(false, 15, false, 15),
                agreed(false, 15, true, 15),
            ),
            (
                &[
                    "permessage-deflate; server_no_context_takeover; client_max_window_bits=8; server_max_window_bits=\"8\"",
                ],
                agreed(false, 8, false, 8),
                agreed(false, 8, true, 8),
            ),
            (&["permessage-deflate; client_max_window_bits"], bad, bad),
            (&["permessage-deflate; server_max_window_bits"], bad, bad),
            (&["permessage-deflate; server_max_window_bits=16"], bad, bad),
            (&["permessage-deflate; client_max_window_bits=7"], bad, bad),
            (&["permessage-deflate; client_max_window_bits=09"], bad, bad),
            (
                &["permessage-deflate; server_no_context_takeover; x"],
                bad,
                bad,
            ),
            (
                &["permessage-deflate; server_no_context_takeover=1"],
                bad,
                bad,
            ),
            (
                &["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
                bad,
                bad,
            ),
            (&["permessage-snappy"], bad, bad),
            (&[both, both], bad, bad),
        ];
        for (answers, shared, dedicated) in cases {
            let check = |deflate| check_answer(deflate, true, answers.iter().copied());
            assert_eq!(check(Deflate::Shared), *shared, "{answers:?}, shared");
            assert_eq!(
                check(Deflate::Dedicated),
                *dedicated,
                "{answers:?}, dedicated"
            );
            let without = if answers.is_empty() { Ok(None) } else { bad };
            assert_eq!(check(Deflate::None), without, "{answers:?}");
        }
    }

    #[test]
    fn a_server_accepts_the_offers_of_our_client() {
        assert_eq!(offer(Deflate::None), None);
        for mode in [Deflate::Shared, Deflate::Dedicated] {
            let offer = offer(mode).unwrap();
            let offers: Vec<_> = offer.split(", ").collect();
            for first in 0..offers.len() {
                let (agreed, answer) = accept(mode, true, offers[first..].iter().copied()).unwrap();
                let checked = check_answer(mode, true, [answer.as_str()].into_iter());
                assert_eq!(checked, Ok(Some(agreed)));
                let is_dedicated = mode == Deflate::Dedicated;
                assert_eq!(agreed.server.keeps_window, is_dedicated);
                assert_eq!(agreed.client.keeps_window, is_dedicated && first == 0);
            }
        }
    }
}
