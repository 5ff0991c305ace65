//! `POST /pusher/auth` and `POST /pusher/user-auth`, for pages whose users have a token of the hub: the signatures that an
//! application would make for its users. The token says which topics of channels they may subscribe to, and who they are.

use std::rc::Rc;

use crate::hub::access::Access;
use crate::hub::engine::Place;
use crate::hub::guesses::{self, Denied};
use crate::hub::parts::Parts;
use crate::hub::rights::{Lack, Rights};
use crate::protocol::http::Status;
use crate::protocol::json::quote;
use crate::protocol::pusher::channel::{Channel, ChannelKind};
use crate::protocol::pusher::signature::{sign, sign_in_text, subscription_text};
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::server::router::Router;

use super::app::PusherApp;
use super::topic::topic_of;

/// Adds the routes.
pub(super) fn add_routes<S: 'static>(
    router: &mut Router<S>,
    hub: &Rc<Parts<S>>,
    access: &Rc<Access>,
) {
    let routes = [
        ("/pusher/auth", subscription as Answer<S>),
        ("/pusher/user-auth", sign_in),
    ];
    for (path, answer) in routes {
        let (hub, access) = (Rc::clone(hub), Rc::clone(access));
        router.post(path, move |request| {
            let (rights, shown) = Rights::of_request(request, &access);
            let asked = Asked::of(request, &hub);
            let answer = asked.and_then(|asked| answer(&hub, &rights, &asked));
            match answer {
                Ok(json) => {
                    request.reply(Reply::from(json).content_type("application/json"));
                }
                Err(Refused::Invalid(reply)) => _ = request.reply(reply),
                Err(Refused::Lacks(lack)) => {
                    let what = "this channel";
                    let denied = Denied::NotGranted { what, lack, shown };
                    guesses::refuse(request, denied, &hub.guesses);
                }
            }
        });
    }
}

type Answer<S> = fn(&Parts<S>, &Rights, &Asked) -> Result<String, Refused>;

enum Refused {
    Invalid(Reply),
    Lacks(Lack),
}

fn bad(why: &str) -> Refused {
    Refused::Invalid((Status::BAD_REQUEST, format!("{why}\n")).into())
}

/// The fields of a form that a client of Pusher sends.
struct Asked {
    app: Rc<PusherApp>,
    socket_id: String,
    channel: String,
}

impl Asked {
    /// The fields of a request. A hub with several apps is told which by the field `app_key`.
    fn of<S: 'static>(request: &Request<'_, '_, S>, hub: &Parts<S>) -> Result<Asked, Refused> {
        let apps = hub.pusher.apps();
        let app = match request.form("app_key") {
            Some(key) => apps.by_key(&key),
            None => apps.single(),
        };
        let app = app.ok_or_else(|| bad("app_key does not name one of the apps"))?;
        let socket_id = request.form("socket_id").unwrap_or_default();
        // Another text could be made to look like that of another channel.
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let is_socket_id = socket_id.split('.').all(is_number);
        if !is_socket_id || Place::of_session_id(&socket_id).is_none() {
            return Err(bad("socket_id is not that of a connection"));
        }
        Ok(Asked {
            app: Rc::clone(app),
            socket_id: socket_id.into_owned(),
            channel: request
                .form("channel_name")
                .unwrap_or_default()
                .into_owned(),
        })
    }

    fn signature(&self, text: &str) -> String {
        let signature = sign(self.app.secret(), text.as_bytes());
        quote(&format!("{}:{signature}", self.app.key()))
    }
}

/// Answers `{"auth":..,"channel_data"?:..}`.
fn subscription<S: 'static>(
    hub: &Parts<S>,
    rights: &Rights,
    asked: &Asked,
) -> Result<String, Refused> {
    let channel = Channel::parse(&asked.channel).map_err(|error| bad(&error.to_string()))?;
    if !channel.needs_signature() {
        return Err(bad("this kind of channel needs no signature"));
    }
    if channel.kind() == ChannelKind::Encrypted {
        return Err(bad(
            "the application alone has the keys of encrypted channels",
        ));
    }
    let topic = topic_of(asked.app.id(), channel.name());
    (rights.may_subscribe(&hub.options.rules, &topic)).map_err(Refused::Lacks)?;
    if channel.kind() != ChannelKind::Presence {
        let text = subscription_text(&asked.socket_id, channel.name(), None);
        return Ok(format!("{{\"auth\":{}}}", asked.signature(&text)));
    }
    let user = rights.user().ok_or(Refused::Lacks(Lack::Credential))?;
    let info = match rights.info() {
        Some(info) => format!(",\"user_info\":{info}"),
        None => String::new(),
    };
    let data = format!("{{\"user_id\":{}{info}}}", quote(user));
    let text = subscription_text(&asked.socket_id, channel.name(), Some(&data));
    let (auth, data) = (asked.signature(&text), quote(&data));
    Ok(format!("{{\"auth\":{auth},\"channel_data\":{data}}}"))
}

/// Answers `{"auth":..,"user_data":..}`.
fn sign_in<S: 'static>(_: &Parts<S>, rights: &Rights, asked: &Asked) -> Result<String, Refused> {
    let user = rights.user().ok_or(Refused::Lacks(Lack::Credential))?;
    let info = match rights.info() {
        Some(info) => format!(",\"user_info\":{info}"),
        None => String::new(),
    };
    let data = format!("{{\"id\":{}{info}}}", quote(user));
    let auth = asked.signature(&sign_in_text(&asked.socket_id, &data));
    Ok(format!(
        "{{\"auth\":{auth},\"user_data\":{}}}",
        quote(&data)
    ))
}
