//! Notices: news about a topic for its members that are not publications.
//!
//! A notice has no number and no place in history. Each wire format that has words for notices says so
//! with an [`EncodeNotice`](super::EncodeNotice); members with another one do not get them.

/// The news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Publications before this cursor may be missing.
    Gap {
        /// A cursor behind the gap.
        cursor: &'a str,
    },
}

impl Notice<'_> {
    /// The name of this kind of notice: `joined`, `left`, `count` or `gap`.
    pub fn name(&self) -> &'static str {
        match self {
            Notice::Joined { .. } => "joined",
            Notice::Left { .. } => "left",
            Notice::Count { .. } => "count",
            Notice::Gap { .. } => "gap",
        }
    }

    /// The user that it is about.
    pub fn user(&self) -> Option<&str> {
        match self {
            Notice::Joined { user, .. } | Notice::Left { user } => Some(user),
            Notice::Count { .. } | Notice::Gap { .. } => None,
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
