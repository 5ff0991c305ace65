//! Topics, patterns and payloads: who gets a message, and in which bytes.
//!
//! Pure: no socket, no clock, no log. [`Topics`] knows members as numbers, and whose numbers they
//! are is the caller's business; [`Encoded`] turns an [`Event`] into the bytes of each wire
//! [`WireFormat`] once, however many members take it.
//!
//! A publication is: [`Topics::members`], and for each of them [`Encoded::get`].

mod event;
mod names;
pub mod pattern;
mod slots;
mod topics;
mod wire_format;

pub use event::{Event, EventId, EventIdError, Payload, Publication};
pub use topics::{Limits, Subscriptions, TOPIC_BYTES_MAX, TopicError, Topics, check_name};
pub use wire_format::{
    Encode, Encoded, WIRE_FORMATS_MAX, WireFormat, WireFormats, WireFormatsFull,
};

#[cfg(test)]
mod tests {
    /// Random numbers that are the same in every run.
    pub(super) struct Xorshift(u64);

    impl Xorshift {
        pub(super) fn new(seed: u64) -> Xorshift {
            Xorshift(seed)
        }

        pub(super) fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % end
        }
    }
}
