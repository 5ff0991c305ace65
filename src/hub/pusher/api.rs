//! The HTTP API of an app, for its backend: `POST /apps/ID/events`.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;

use crate::hub::parts::Parts;
use crate::protocol::http::{Status, form};
use crate::protocol::json;
use crate::protocol::pusher::channel::Channel;
use crate::protocol::pusher::message::EVENT_BYTES_MAX;
use crate::protocol::pusher::signature::ApiRequest;
use crate::pubsub::Event;
use crate::reactor::id::ConnId;
use crate::server::reply::Reply;
use crate::server::request::Request;
use crate::server::router::Router;

use super::app::{PusherApp, PusherApps};
use super::socket::SocketIds;
use super::topic::topic_of;

/// The most channels of one event.
const CHANNELS_MAX: usize = 100;

/// The longest data of an event, in bytes.
const DATA_BYTES_MAX: usize = 10 * 1024;

/// Adds the routes of the HTTP API.
pub(super) fn add_routes<S: 'static>(
    router: &mut Router<S>,
    hub: &Rc<Parts<S>>,
    apps: &Rc<PusherApps>,
    ids: &SocketIds,
) {
    let (hub, apps, ids) = (Rc::clone(hub), Rc::clone(apps), Rc::clone(ids));
    router.post("/apps/:id/events", move |request| {
        let app = checked(request, &apps)?;
        let trigger = Trigger::parse(request.body(), &ids)?;
        trigger.publish(request, &hub, &app);
        Ok::<_, Reply>(())
    });
}

/// The app of a request, which its backend has signed.
///
/// # Errors
///
/// The answer 404 where there is no such app, and 401 where the request is not signed.
fn checked<S: 'static>(
    request: &Request<'_, '_, S>,
    apps: &PusherApps,
) -> Result<Rc<PusherApp>, Reply> {
    let id = request.param("id").unwrap_or_default();
    let app = apps.by_id(&id);
    let app = app.ok_or((Status::NOT_FOUND, "there is no app with this id\n"))?;
    let pairs = form::try_pairs(request.query_string().unwrap_or_default());
    let owned =
        |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
    let query: Option<Vec<_>> = pairs.map(|pair| pair.map(owned)).collect();
    let query = query.ok_or((Status::BAD_REQUEST, "the query is not UTF-8 text\n"))?;
    let signed = ApiRequest {
        method: request.method(),
        path: request.path(),
        query: &query,
        body: request.body(),
    };
    let now_unix = request.reactor.system_unix_time();
    match signed.check(app.key(), app.secret(), now_unix) {
        Ok(()) => Ok(Rc::clone(app)),
        Err(error) => Err((Status::UNAUTHORIZED, format!("{error}\n")).into()),
    }
}

/// An event that a backend has triggered.
struct Trigger<'i> {
    event: Event<'i>,
    channels: Vec<Cow<'i, str>>,
    /// The connection that does not get it.
    except: Option<ConnId>,
}

impl<'i> Trigger<'i> {
    /// Reads the body of a request.
    ///
    /// # Errors
    ///
    /// The answer 400 or 413.
    fn parse(body: &'i [u8], ids: &SocketIds) -> Result<Trigger<'i>, Reply> {
        let bad = |why: String| Reply::from((Status::BAD_REQUEST, format!("{why}\n")));
        let missing = |what: &str| bad(format!("{what} is missing, or no text"));
        let text = str::from_utf8(body).map_err(|_| bad("the body is not UTF-8 text".into()))?;
        json::check_depth(text).map_err(|error| bad(error.to_string()))?;
        let names = &["name", "data", "channels", "channel", "socket_id"];
        let fields = json::fields(text, names).map_err(|error| bad(error.to_string()))?;
        let [name, data, channels, channel, socket_id] = fields;
        let name = name.and_then(json::string).ok_or_else(|| missing("name"))?;
        if EVENT_BYTES_MAX < name.len() {
            return Err(bad(format!("name has more than {EVENT_BYTES_MAX} bytes")));
        }
        let data = data.and_then(json::string).ok_or_else(|| missing("data"))?;
        if DATA_BYTES_MAX < data.len() {
            let why = format!("data has more than {DATA_BYTES_MAX} bytes\n");
            return Err((Status::CONTENT_TOO_LARGE, why).into());
        }
        let channels = match (channels, channel) {
            (Some(list), _) => json::elements(list.get(), CHANNELS_MAX)
                .map_err(|error| bad(format!("channels: {error}")))?,
            (None, Some(one)) => vec![one],
            (None, None) => return Err(missing("channels")),
        };
        let channels = channels.into_iter().map(json::string);
        let channels: Option<Vec<_>> = channels.collect();
        let channels = channels.ok_or_else(|| missing("a channel"))?;
        for channel in &channels {
            if let Err(error) = Channel::parse(channel) {
                return Err(bad(format!("{channel:?}: {error}")));
            }
        }
        let socket_id = socket_id.and_then(json::string);
        let except = socket_id.and_then(|id| ids.borrow().get(&*id).copied());
        let event = Event::try_new(name).map_err(|error| bad(error.to_string()))?;
        Ok(Trigger {
            event: event.data(data),
            channels,
            except,
        })
    }

    /// Publishes the event to its channels, and answers the request when all have it.
    fn publish<S: 'static>(
        self,
        request: &mut Request<'_, '_, S>,
        hub: &Parts<S>,
        app: &PusherApp,
    ) {
        let responder = request.reply_later();
        let left = Rc::new(Cell::new(self.channels.len()));
        if self.channels.is_empty() {
            request.reactor.reply(responder, json_reply("{}"));
            return;
        }
        for channel in &self.channels {
            let topic = topic_of(app.id(), channel);
            let left = Rc::clone(&left);
            let done = move |reactor: &mut crate::reactor::reactor::Reactor<S>,
                             outcome: Result<_, _>| {
                left.set(left.get().saturating_sub(1));
                match outcome {
                    Ok(_) if left.get() == 0 => {
                        reactor.reply(responder, json_reply("{}"));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        reactor.reply(responder, crate::hub::once::unavailable(&error));
                    }
                }
            };
            let event = self.event.clone();
            let published = hub
                .engine
                .publish(request.reactor, &topic, event, self.except, done);
            if let Err(error) = published {
                let reply = crate::hub::once::unavailable(&error);
                request.reactor.reply(responder, reply);
                return;
            }
        }
    }
}

fn json_reply(text: &'static str) -> Reply {
    Reply::from(text).content_type("application/json")
}
