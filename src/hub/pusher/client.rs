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
        // It is signed in every authorization, so that it must not be guessed.
        let socket_id = format!("{}.{}", rand::random::<u64>(), place.to_number());
        Socket {
            app,
            socket_id: socket_id.into(),
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

/// The place of the connection that has a socket id: a random number, a dot, and the number of the place.
pub(super) fn place_of_socket(socket_id: &str) -> Option<Place> {
    let (_, place) = socket_id.split_once('.')?;
    place.parse().ok().map(Place::of_number)
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
