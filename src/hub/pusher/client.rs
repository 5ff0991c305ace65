//! A client of an app: its socket id, and the user that has signed in.

use std::rc::Rc;

use crate::hub::engine::Place;
use crate::pubsub::User;

use super::app::PusherApp;
use super::event_rate::EventRate;
use super::registry::user_key;

/// A client that was greeted.
pub(super) struct Socket {
    app: Rc<PusherApp>,
    socket_id: Box<str>,
    signed_in: Option<Box<SignedIn>>,
    event_rate: EventRate,
}

impl Socket {
    /// A client of an app, at a place.
    pub(super) fn new(app: Rc<PusherApp>, place: Place) -> Socket {
        Socket {
            app,
            // It is signed in every authorization, so that it must not be guessed.
            socket_id: place.to_session_id().into(),
            signed_in: None,
            event_rate: EventRate::default(),
        }
    }

    pub(super) fn app(&self) -> &Rc<PusherApp> {
        &self.app
    }

    pub(super) fn socket_id(&self) -> &str {
        &self.socket_id
    }

    pub(super) fn signed_in(&self) -> Option<&SignedIn> {
        self.signed_in.as_deref()
    }

    pub(super) fn set_signed_in(&mut self, signed_in: SignedIn) {
        self.signed_in = Some(Box::new(signed_in));
    }

    pub(super) fn event_rate_mut(&mut self) -> &mut EventRate {
        &mut self.event_rate
    }
}

/// A user who has signed in.
pub(super) struct SignedIn {
    user: User,
    user_data: Box<str>,
}

impl SignedIn {
    /// A user, and the data with which it has signed in.
    pub(super) fn new(user: User, user_data: &str) -> SignedIn {
        SignedIn {
            user,
            user_data: user_data.into(),
        }
    }

    pub(super) fn user(&self) -> &User {
        &self.user
    }

    pub(super) fn user_data(&self) -> &str {
        &self.user_data
    }

    /// The name of the user among those of all apps.
    pub(super) fn key(&self, app_id: &str) -> String {
        user_key(app_id, &self.user.name)
    }
}
