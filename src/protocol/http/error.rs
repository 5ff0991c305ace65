//! Errors: the peer's against HTTP, and our own when a header or request cannot be encoded.

use std::fmt;

use super::status::Status;

/// Why a peer's bytes are not HTTP/1.1, or are more than the limits allow.
///
/// The connection is lost: answer with [`status`](Self::status) and `Connection: close`. The
/// errors of a response have a status too, which a gateway would send to its own client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HttpError {
    /// A TLS record, on a port without TLS.
    TlsOnPlainPort,
    /// A header of the PROXY protocol, which this port does not read.
    ProxyHeader,
    /// The first line is not method, target and version with one space between.
    BadRequestLine,
    /// The first line of a response is not version, status and reason.
    BadStatusLine,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    UnsupportedVersion,
    /// A well-formed method that is not one of HTTP's.
    UnknownMethod,
    /// The target is not of a form that its method allows.
    BadTarget,
    /// The target is longer than [`Limits::target_bytes_max`](super::Limits::target_bytes_max).
    TargetTooLong,
    /// A line that ends with a line feed alone.
    BareLineFeed,
    /// A carriage return that is not the end of a line, or something else where a line must end.
    BadLineEnding,
    /// A header name that is not a token: an empty one, one with a space before its colon, a
    /// folded line.
    BadHeaderName,
    /// A control character in a header value.
    BadHeaderValue,
    /// `Forwarded` and `X-Forwarded-For` or `X-Forwarded-Proto` of a trusted proxy contradict each other, or one
    /// of them is broken.
    ConflictingForwarding,
    /// More header lines than [`Limits::header_lines_max`](super::Limits::header_lines_max).
    TooManyHeaders,
    /// A head longer than [`Limits::head_bytes_max`](super::Limits::head_bytes_max).
    HeadTooLong,
    /// An HTTP/1.1 request without `Host`.
    MissingHost,
    /// `Host` is there twice, is empty, or is not a host and port.
    BadHost,
    /// `Content-Length` is there twice, is not digits only, or overflows.
    BadContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`. A proxy that obeys the other one than we do sees
    /// other requests, which is how requests are smuggled.
    ConflictingFraming,
    /// `Transfer-Encoding` does not end with its only `chunked`, or the message is HTTP/1.0.
    BadTransferEncoding,
    /// A transfer coding other than `chunked`.
    UnknownTransferCoding,
    /// An `Expect` other than `100-continue`.
    UnknownExpectation,
    /// A body longer than [`Limits::body_bytes_max`](super::Limits::body_bytes_max).
    BodyTooLong,
    /// A chunk whose size, line end or trailer is broken.
    BadChunk,
    /// More than [`OVERHEAD_BYTES_MAX`](super::OVERHEAD_BYTES_MAX) of chunk extensions and
    /// trailers.
    ChunkOverhead,
    /// More connections, or more of them in a second, than one address may have.
    TooManyConnections,
    /// The connection ended inside a head or a body.
    Truncated,
    /// The server has answered 101 to a request that did not ask for another protocol.
    UnexpectedUpgrade,
    /// The server has sent more than 16 interim answers (1xx) before its answer.
    TooManyInterimResponses,
}

impl HttpError {
    /// The status of the answer.
    pub fn status(self) -> Status {
        match self {
            HttpError::TlsOnPlainPort
            | HttpError::ProxyHeader
            | HttpError::BadRequestLine
            | HttpError::BadTarget
            | HttpError::BareLineFeed
            | HttpError::BadLineEnding
            | HttpError::BadHeaderName
            | HttpError::BadHeaderValue
            | HttpError::ConflictingForwarding
            | HttpError::MissingHost
            | HttpError::BadHost
            | HttpError::BadContentLength
            | HttpError::ConflictingFraming
            | HttpError::BadTransferEncoding
            | HttpError::BadChunk
            | HttpError::ChunkOverhead
            | HttpError::Truncated => Status::BAD_REQUEST,
            HttpError::TooManyConnections => Status::TOO_MANY_REQUESTS,
            HttpError::BodyTooLong => Status::CONTENT_TOO_LARGE,
            HttpError::TargetTooLong => Status::URI_TOO_LONG,
            HttpError::UnknownExpectation => Status::EXPECTATION_FAILED,
            HttpError::TooManyHeaders | HttpError::HeadTooLong => {
                Status::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            HttpError::UnknownMethod | HttpError::UnknownTransferCoding => Status::NOT_IMPLEMENTED,
            HttpError::BadStatusLine
            | HttpError::UnexpectedUpgrade
            | HttpError::TooManyInterimResponses => Status::BAD_GATEWAY,
            HttpError::UnsupportedVersion => Status::HTTP_VERSION_NOT_SUPPORTED,
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HttpError::TlsOnPlainPort => "a TLS record on a port without TLS",
            HttpError::ProxyHeader => "a PROXY header on a port that does not read them",
            HttpError::BadRequestLine => "a malformed request line",
            HttpError::BadStatusLine => "a malformed status line",
            HttpError::UnsupportedVersion => "a version other than HTTP/1.0 and HTTP/1.1",
            HttpError::UnknownMethod => "an unknown method",
            HttpError::BadTarget => "a malformed target",
            HttpError::TargetTooLong => "a target above the limit",
            HttpError::BareLineFeed => "a line that ends with a line feed alone",
            HttpError::BadLineEnding => "a malformed line ending",
            HttpError::BadHeaderName => "a header name that is not a token",
            HttpError::BadHeaderValue => "a control character in a header value",
            HttpError::ConflictingForwarding => {
                "forwarding headers that contradict each other or are malformed"
            }
            HttpError::TooManyHeaders => "more header lines than the limit",
            HttpError::HeadTooLong => "a head above the limit",
            HttpError::MissingHost => "no Host header",
            HttpError::BadHost => "a malformed or repeated Host header",
            HttpError::BadContentLength => "a malformed or repeated Content-Length",
            HttpError::ConflictingFraming => "both Content-Length and Transfer-Encoding",
            HttpError::BadTransferEncoding => "a Transfer-Encoding that is not chunked at its end",
            HttpError::UnknownTransferCoding => "a transfer coding other than chunked",
            HttpError::UnknownExpectation => "an expectation other than 100-continue",
            HttpError::BodyTooLong => "a body above the limit",
            HttpError::BadChunk => "a malformed chunk",
            HttpError::ChunkOverhead => "chunk extensions and trailers above the limit",
            HttpError::TooManyConnections => "more connections than one address may have",
            HttpError::Truncated => "the end of the connection inside a message",
            HttpError::UnexpectedUpgrade => "an upgrade that was not asked for",
            HttpError::TooManyInterimResponses => "more interim answers than the limit",
        })
    }
}

impl std::error::Error for HttpError {}

/// Why a header or request of ours could not be encoded: it could end a header and begin another, or
/// contradict the framing. The output is unchanged then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A header name, or a subprotocol, that is not a token.
    BadName,
    /// A control character in a header value.
    BadValue,
    /// A request target that does not begin with a slash, or is not visible ASCII.
    BadTarget,
    /// A host that is not a name or address with an optional port.
    BadHost,
    /// A method that is not a token, or CONNECT, which is for proxies.
    BadMethod,
    /// A header that the client itself sets, or that concerns the connection: `Connection`, `Content-Length`,
    /// `Expect`, `Host`, `HTTP2-Settings`, `Keep-Alive`, `Proxy-Connection`, `TE`, `Trailer`, `Transfer-Encoding` or
    /// `Upgrade`. A second one would contradict the first.
    ReservedName,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EncodeError::BadName => "a header name or subprotocol must be a token",
            EncodeError::BadValue => "a header value must be free of control characters",
            EncodeError::BadTarget => "a target must begin with a slash and be visible ASCII",
            EncodeError::BadHost => "a host must be a name or address with an optional port",
            EncodeError::BadMethod => "a method must be a token, and not CONNECT",
            EncodeError::ReservedName => "a header that the client itself sets",
        })
    }
}

impl std::error::Error for EncodeError {}
