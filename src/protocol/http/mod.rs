//! HTTP/1.1: heads, bodies, answers, forms, and the upgrade to WebSocket.
//!
//! Pure: bytes in, heads and body pieces out, bytes out; no socket, no clock, no log.
//!
//! * [`parse_request_head`] parses a whole request head at the front of the input, and finds
//!   everything that follows from its bytes: the framing of the body, whether the connection
//!   persists, and whether the request must be refused. [`parse_response_head`] does the same for
//!   clients.
//! * [`BodyDecoder`] takes the body off the input piece by piece, [`Exchange`] keeps requests and
//!   answers in order.
//! * [`ResponseDecoder`] takes the answer to one request off the input, [`OutgoingRequest`] writes the request's head.
//! * [`ResponseHead`] and the `encode_…` functions write answers, and refuse a value that would
//!   split a header.
//! * [`Conditions`] says which part of a file answers a request, and [`RelativePath`] which file.
//! * [`form`] is queries and form bodies, [`upgrade`] the handshake of WebSocket.
//!
//! The parsers are strict where leniency has been used to smuggle requests past a proxy: bare line
//! feeds, folded headers, spaces before a colon, two lengths, and any coding but `chunked` are
//! errors. Which error it is does not depend on how the bytes were cut: the first byte that cannot
//! belong to a head decides.
//!
//! The roles do the parts that need a clock (slow heads and bodies) or a queue (the order of
//! pipelined answers).
//!
//! Source: RFC 9110 and RFC 9112.

mod body;
mod conditions;
mod content_type;
mod date;
mod deferred;
mod encode;
mod encode_request;
mod entity_tag;
mod error;
mod exchange;
pub mod form;
mod forwarded;
mod framing;
mod handed_out;
mod head;
mod headers;
mod limits;
mod range;
mod reference;
mod relative_path;
mod request;
mod response;
mod response_decoder;
mod status;
mod target;
mod tunnel;
pub mod upgrade;
mod url;

pub use deferred::Accept;
pub use error::{EncodeError, HttpError};
pub use headers::Headers;
pub use limits::Limits;
pub use status::Status;

// For the roles, and for the tests and the benchmarks of this repository. Their names may change in any version.
#[doc(hidden)]
pub use body::{BodyChunk, BodyDecoder, OVERHEAD_BYTES_MAX};
#[doc(hidden)]
pub use conditions::{Conditions, Selected, Validators};
#[doc(hidden)]
pub use content_type::content_type_of_name;
#[doc(hidden)]
pub use date::{format_date, parse_date};
#[doc(hidden)]
pub use deferred::{Check, Deferred};
#[doc(hidden)]
pub use encode::{
    ResponseHead, encode_chunk, encode_continue, encode_last_chunk, encode_refusal, is_header,
};
#[doc(hidden)]
pub use encode_request::{OutgoingRequest, is_reserved_header};
#[doc(hidden)]
pub use entity_tag::{EntityTag, EntityTags, FileState};
#[doc(hidden)]
pub use exchange::{BodyLength, Exchange, ExtraHeaders, OnAnswer, Phase};
#[doc(hidden)]
pub use forwarded::{Forwarded, ForwardedError, Scheme, forwarded};
pub use framing::BodyFraming;
#[doc(hidden)]
pub use head::Version;
#[doc(hidden)]
pub use headers::{HEADER_LINES_MAX, HeaderStorage};
#[doc(hidden)]
pub use range::{Part, RangeRequest, Unsatisfiable};
#[doc(hidden)]
pub use reference::resolve_reference;
#[doc(hidden)]
pub use relative_path::RelativePath;
#[doc(hidden)]
pub use request::{ParsedHead, RequestHead, method_and_path, parse_request_head};
#[doc(hidden)]
pub use response::{ParsedResponse, parse_response_head};
#[doc(hidden)]
pub use response_decoder::{INTERIM_RESPONSES_MAX, ResponseDecoder, ResponseEvent};
#[doc(hidden)]
pub use target::Target;
pub use tunnel::TunnelError;
#[doc(hidden)]
pub use tunnel::{TUNNEL_ANSWER_BYTES_MAX, TunnelAnswer, encode_connect};
#[doc(hidden)]
pub use url::{Url, UrlError, basic_credentials, without_user_info};
