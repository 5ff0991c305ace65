//! The HTTP API of an app, for its backend: each request is signed.
//!
//! ```text
//!   POST /apps/ID/events, /batch_events, /channels/C/events    trigger
//!   GET  /apps/ID/channels, /channels/C, /channels/C/users     channels
//!   POST /apps/ID/users/U/terminate_connections                here
//! ```

mod call;
mod channels;
mod info;
mod trigger;

use std::rc::Rc;

use crate::hub::parts::Parts;
use crate::hub::users;
use crate::protocol::http::Status;
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::server::router::Router;

use super::registry::user_key;
use call::{Call, json_reply};

/// Adds the routes of the HTTP API.
pub(super) fn add_routes<S: 'static>(router: &mut Router<S>, hub: &Rc<Parts<S>>) {
    let gets = [
        ("/apps/:id/channels", channels::list as Answer<S>),
        ("/apps/:id/channels/:channel", channels::one),
        ("/apps/:id/channels/:channel/users", channels::users),
    ];
    let posts = [
        ("/apps/:id/events", trigger::one as Answer<S>),
        ("/apps/:id/batch_events", trigger::batch),
        ("/apps/:id/channels/:channel/events", trigger::by_path),
        (
            "/apps/:id/users/:user/terminate_connections",
            terminate_connections,
        ),
    ];
    for (path, answer) in gets {
        let hub = Rc::clone(hub);
        router.get(path, move |request| answer_signed(request, &hub, answer));
    }
    for (path, answer) in posts {
        let hub = Rc::clone(hub);
        router.post(path, move |request| answer_signed(request, &hub, answer));
    }
}

/// Answers a signed request, now or later.
type Answer<S> = fn(&mut Request<'_, '_, S>, &Rc<Parts<S>>, &Call<'_>) -> Result<(), Reply>;

fn answer_signed<S: 'static>(
    request: &mut Request<'_, '_, S>,
    hub: &Rc<Parts<S>>,
    answer: Answer<S>,
) -> Result<(), Reply> {
    let id = request.param("id").unwrap_or_default();
    let app = hub.pusher.apps().by_id(&id);
    let app = app.ok_or((Status::NOT_FOUND, "there is no app with this id\n"))?;
    let call = Call::of(request, app)?;
    if app.is_disabled() {
        return Err((Status::FORBIDDEN, "the app is disabled\n").into());
    }
    answer(request, hub, &call)
}

/// Closes the connections of a user that has signed in, on all nodes.
fn terminate_connections<S: 'static>(
    request: &mut Request<'_, '_, S>,
    hub: &Rc<Parts<S>>,
    call: &Call<'_>,
) -> Result<(), Reply> {
    let user = request.param("user").unwrap_or_default();
    let user = user_key(call.app().id(), &user);
    let responder = request.reply_later();
    users::disconnect(&hub.engine, request.cx(), user, move |reactor, _| {
        reactor.reply(responder, json_reply("{}"));
    });
    Ok(())
}
