//! Topics, patterns and events: which members get a publication, in which bytes, and by which rules.
//!
//! Pure: no socket, no clock, no log. [`Topics`] knows members as numbers, and the caller knows
//! which connections these are. [`Encoded`] writes an [`Event`] in the [`WireFormat`] and the
//! [`Frame`] of each member, once for all members that take the same.
//!
//! To publish is to go through [`Topics::members`], and to call [`Encoded::get`] for each of them.

mod body;
mod event;
mod event_id;
mod history;
mod index;
mod names;
mod notice;
mod numbering;
mod occupancy;
pub mod pattern;
mod presence;
mod rules;
mod sequencer;
mod slots;
mod topics;
mod wire_format;

pub use event::{Event, Payload, Publication};
#[doc(hidden)]
pub use event_id::{BUCKET_COUNT, ID_BYTES_MAX};
pub use event_id::{EventId, EventIdError};
pub use notice::{Audience, Notice};
pub(crate) use occupancy::Occupancy;
#[cfg(feature = "pusher")]
pub(crate) use occupancy::{OccupancyChange, VACATED_DELAY};
pub(crate) use presence::MemberChange;
pub use presence::{
    PRESENCE_USERS_MAX, Presence, PresenceChange, PresenceCounts, PresentUser, Snapshot,
    TopicChange, User,
};
pub use rules::{HISTORY_AGE_MAX, HISTORY_COUNT_MAX, RULES_MAX, Rule, RuleError, Rules};
pub use topics::{TOPIC_BYTES_MAX, TopicError};
pub use wire_format::{BodyKind, EncodeNotice, HasNotice, WIRE_FORMATS_MAX, WireFormat};

// For the reactor, and for the tests and the benchmarks of this repository. Their names may change in any version.
#[doc(hidden)]
pub use body::{Body, Scratch};
#[doc(hidden)]
pub use history::{
    Entry, Gap, History, PAGE_BODIES_MAX, Page, Reader, Since, TopicHistory, Wanted,
};
#[doc(hidden)]
pub use numbering::{Found, Numbering};
#[doc(hidden)]
pub use sequencer::{Bell, Content, Outcome, Post, Sequencer, Taken};
#[doc(hidden)]
pub use topics::{Limits, MembersChange, NameKind, Subscriptions, Topics, check_name};
#[doc(hidden)]
pub use wire_format::{Encode, Encoded, Frame, FramedFormat, WireFormats, WireFormatsFull};

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
