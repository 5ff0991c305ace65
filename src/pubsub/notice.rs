//! Notices: news about a topic for its members that are not publications.
//!
//! A notice has no number and no place in history. Each wire format that has words for notices says so
//! with an [`EncodeNotice`](super::EncodeNotice); members with another one do not get them.

use super::presence::{PresenceChange, Snapshot};

/// The news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// A user has come: its first connection is a member.
    Joined {
        /// The name of the user.
        user: &'a str,
        /// The description of the user that its token has, as JSON.
        info: Option<&'a str>,
    },
    /// A user has gone, with the last of its connections.
    Left {
        /// The name of the user.
        user: &'a str,
    },
    /// Users come and go, and they are too many to name them.
    Count {
        /// How many users there are now.
        user_count: usize,
    },
    /// There are so many connections, as a program counts them.
    Connections {
        /// How many connections are present.
        count: usize,
    },
    /// The members of the topic at this place in its order: whatever was known of them before is replaced.
    Present {
        /// The members.
        snapshot: &'a Snapshot,
    },
    /// Publications before this cursor may be missing.
    Gap {
        /// A cursor behind the gap.
        cursor: &'a str,
    },
    /// The queue of a member is full, and its connection ends.
    Lagged {
        /// The cursor of a client that has got everything that was queued before.
        cursor: &'a str,
    },
}

impl Notice<'_> {
    /// The name of this kind of notice: `joined`, `left`, `count`, `connections`, `present`, `gap` or `lagged`.
    pub fn name(&self) -> &'static str {
        match self {
            Notice::Joined { .. } => "joined",
            Notice::Left { .. } => "left",
            Notice::Count { .. } => "count",
            Notice::Connections { .. } => "connections",
            Notice::Present { .. } => "present",
            Notice::Gap { .. } => "gap",
            Notice::Lagged { .. } => "lagged",
        }
    }

    /// The user that it is about.
    pub fn user(&self) -> Option<&str> {
        match self {
            Notice::Joined { user, .. } | Notice::Left { user } => Some(user),
            Notice::Count { .. }
            | Notice::Connections { .. }
            | Notice::Present { .. }
            | Notice::Gap { .. }
            | Notice::Lagged { .. } => None,
        }
    }

    /// The cursor that it has.
    pub fn cursor(&self) -> Option<&str> {
        match self {
            Notice::Gap { cursor } | Notice::Lagged { cursor } => Some(cursor),
            Notice::Joined { .. }
            | Notice::Left { .. }
            | Notice::Count { .. }
            | Notice::Connections { .. }
            | Notice::Present { .. } => None,
        }
    }
}

impl<'a> From<&'a PresenceChange> for Notice<'a> {
    fn from(change: &'a PresenceChange) -> Notice<'a> {
        match change {
            PresenceChange::Joined(user) => Notice::Joined {
                user: &user.name,
                info: user.info.as_deref(),
            },
            PresenceChange::Left(user) => Notice::Left { user },
            PresenceChange::Counted { user_count } => Notice::Count {
                user_count: *user_count,
            },
            PresenceChange::Listed(snapshot) => Notice::Present { snapshot },
        }
    }
}

/// The members that get a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Those that are subscribed to the topic by its name.
    ByName,
    /// Those, and the members of each pattern that matches the topic.
    All,
    /// Those that are subscribed to the pattern of this very name.
    OfPattern,
}
