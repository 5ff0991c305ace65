//! A subscriber of an event stream: reads the head of the answer, its chunks, and the events in them.

use waterwheel::protocol::event_stream::{Decoder, Event, Limits};
use waterwheel::protocol::http::{
    self, BodyChunk, BodyDecoder, HeaderStorage, Status, parse_response_head,
};

/// The state of one stream.
pub enum EventSource {
    /// The part of the head that has come.
    Head(Vec<u8>),
    Open(BodyDecoder, Decoder),
}

/// The next thing that a stream brought.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamNext {
    /// The server accepted the request.
    Opened,
    Event(Event),
}

impl EventSource {
    pub fn new() -> EventSource {
        EventSource::Head(Vec::new())
    }

    /// The request for a stream.
    pub fn request(host: &str, target: &str) -> String {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n")
    }

    /// Calls `on_next` for everything that `input` completes.
    ///
    /// # Errors
    ///
    /// A sentence, when the answer is not an event stream, or the stream has ended.
    pub fn read(
        &mut self,
        input: &[u8],
        mut on_next: impl FnMut(StreamNext),
    ) -> Result<(), String> {
        let rest;
        let mut input = input;
        if let EventSource::Head(head) = self {
            head.extend_from_slice(input);
            let Some((used, body)) = read_head(head)? else {
                return Ok(());
            };
            rest = head.split_off(used);
            input = &rest;
            *self = EventSource::Open(body, Decoder::new());
            on_next(StreamNext::Opened);
        }
        let EventSource::Open(body, decoder) = self else {
            return Ok(());
        };
        loop {
            match body.next_chunk(&mut input) {
                Ok(None) => return Ok(()),
                Ok(Some(BodyChunk::End)) => {
                    return Err("the server ended an event stream".to_owned());
                }
                Ok(Some(BodyChunk::Data(mut data))) => {
                    while let Some(event) = decoder
                        .next_event(&mut data, &Limits::default())
                        .map_err(|error| format!("an event stream is broken: {error}"))?
                    {
                        on_next(StreamNext::Event(event));
                    }
                }
                Err(error) => return Err(format!("an event stream is broken: {error}")),
            }
        }
    }
}

fn read_head(input: &[u8]) -> Result<Option<(usize, BodyDecoder)>, String> {
    let mut storage = HeaderStorage::new();
    let parsed = parse_response_head(input, false, &mut storage, &http::Limits::default())
        .map_err(|error| format!("the answer is not HTTP: {error}"))?;
    let Some(parsed) = parsed else {
        return Ok(None);
    };
    let kind = parsed.headers.first("content-type").unwrap_or("nothing");
    if parsed.status != Status::OK || !kind.starts_with("text/event-stream") {
        return Err(format!(
            "the server did not agree to an event stream: it answered {} with {kind}",
            parsed.status.code()
        ));
    }
    Ok(Some((parsed.bytes, BodyDecoder::new(parsed.body))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
        Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n13\r\nevent: e\ndata: bc\n\n\r\n";

    #[test]
    fn events_are_the_same_for_every_cut_of_the_bytes() {
        for cut in 1..WIRE.len() {
            let mut source = EventSource::new();
            let mut all = Vec::new();
            for piece in WIRE.chunks(cut) {
                let outcome = source.read(piece, |next| {
                    all.push(match next {
                        StreamNext::Opened => "opened".to_owned(),
                        StreamNext::Event(event) => format!("{} {}", event.name, event.data),
                    });
                });
                assert_eq!(outcome, Ok(()));
            }
            assert_eq!(
                all,
                ["opened", "message a", "e bc"],
                "pieces of {cut} bytes"
            );
        }
    }

    #[test]
    fn an_answer_that_is_no_stream_is_reported() {
        let cases = [
            (
                "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n",
                "answered 404",
            ),
            (
                "HTTP/1.1 200 x\r\nContent-Type: text/html\r\n\r\n",
                "text/html",
            ),
            ("SSH-2.0-x\r\n\r\n", "not HTTP"),
        ];
        for (wire, part) in cases {
            let error = EventSource::new()
                .read(wire.as_bytes(), |_| {})
                .unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let mut source = EventSource::new();
        source.read(WIRE, |_| {}).unwrap();
        let error = source.read(b"0\r\n\r\n", |_| {}).unwrap_err();
        assert_eq!(error, "the server ended an event stream");
    }
}
