//! Events that a backend triggers.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use serde_json::value::RawValue;

use crate::hub::engine::Place;
use crate::hub::once::unavailable;
use crate::hub::parts::Parts;
use crate::protocol::http::Status;
use crate::protocol::json;
use crate::protocol::pusher::channel::{Channel, ChannelKind};
use crate::protocol::pusher::message::EVENT_BYTES_MAX;
use crate::pubsub::Event;
use crate::reactor::reactor::Reactor;
use crate::server::reply::Reply;
use crate::server::request::Request;

use super::call::{Call, bad, json_reply};
use super::info::{Info, fields_of, object};
use crate::hub::pusher::app::PusherApp;
use crate::hub::pusher::topic::topic_of;

/// The most channels of one event.
const CHANNELS_MAX: usize = 100;

/// The most events of one batch.
const BATCH_MAX: usize = 10;

/// The longest data of an event, in bytes.
const DATA_BYTES_MAX: usize = 10 * 1024;

/// An event for some channels.
struct Trigger<'i> {
    event: Event<'i>,
    channels: Vec<Cow<'i, str>>,
    /// The connection that does not get it.
    except: Option<Place>,
    /// The attributes of the channels that the answer has.
    info: Info,
}

/// `POST /apps/ID/events`.
pub(super) fn one<S: 'static>(
    request: &mut Request<'_, '_, S>,
    hub: &Rc<Parts<S>>,
    call: &Call<'_>,
) -> Result<(), Reply> {
    let trigger = Trigger::parse(text_of(request.body())?)?;
    let (responder, app) = (request.reply_later(), Rc::clone(call.app()));
    let channels: Vec<String> = trigger.channels.iter().map(ToString::to_string).collect();
    let (info, kept) = (trigger.info, Rc::clone(hub));
    publish_all(
        hub,
        request.reactor,
        call.app(),
        vec![trigger],
        move |reactor, outcome| {
            if let Err(reply) = outcome {
                reactor.reply(responder, reply);
            } else if info.is_empty() {
                reactor.reply(responder, json_reply("{}"));
            } else {
                let of_channels = channels.into_iter().map(|channel| (channel, info));
                fields_of_all(
                    &kept,
                    reactor,
                    &app,
                    of_channels.collect(),
                    move |reactor, all| {
                        let named = |(name, fields): &(String, String)| {
                            format!("{}:{fields}", json::quote(name))
                        };
                        let named: Vec<String> = all.iter().map(named).collect();
                        let answer = format!("{{\"channels\":{{{}}}}}", named.join(","));
                        reactor.reply(responder, json_reply(answer));
                    },
                );
            }
        },
    );
    Ok(())
}

/// `POST /apps/ID/batch_events`.
pub(super) fn batch<S: 'static>(
    request: &mut Request<'_, '_, S>,
    hub: &Rc<Parts<S>>,
    call: &Call<'_>,
) -> Result<(), Reply> {
    let [batch] = json::fields(text_of(request.body())?, &["batch"])
        .map_err(|error| bad(&error.to_string()))?;
    let batch = batch.ok_or_else(|| bad("batch is missing"))?;
    let items =
        json::elements(batch.get(), BATCH_MAX).map_err(|error| bad(&format!("batch: {error}")))?;
    let triggers = items.into_iter().map(|item| Trigger::parse(item.get()));
    let triggers: Vec<Trigger<'_>> = triggers.collect::<Result<_, _>>()?;
    let has_info = triggers.iter().any(|trigger| !trigger.info.is_empty());
    let first_channel = |trigger: &Trigger<'_>| {
        let channel = trigger.channels.first().map(ToString::to_string);
        (channel.unwrap_or_default(), trigger.info)
    };
    let of_channels: Vec<(String, Info)> = triggers.iter().map(first_channel).collect();
    let (responder, app) = (request.reply_later(), Rc::clone(call.app()));
    let kept = Rc::clone(hub);
    publish_all(
        hub,
        request.reactor,
        call.app(),
        triggers,
        move |reactor, outcome| {
            if let Err(reply) = outcome {
                reactor.reply(responder, reply);
            } else if !has_info {
                reactor.reply(responder, json_reply("{}"));
            } else {
                fields_of_all(&kept, reactor, &app, of_channels, move |reactor, all| {
                    let fields: Vec<&str> = all.iter().map(|(_, it)| it.as_str()).collect();
                    let answer = format!("{{\"batch\":[{}]}}", fields.join(","));
                    reactor.reply(responder, json_reply(answer));
                });
            }
        },
    );
    Ok(())
}

/// `POST /apps/ID/channels/C/events?name=E`, as old libraries send it: the body is the data.
pub(super) fn by_path<S: 'static>(
    request: &mut Request<'_, '_, S>,
    hub: &Rc<Parts<S>>,
    call: &Call<'_>,
) -> Result<(), Reply> {
    let channel = request.param("channel").unwrap_or_default();
    let name = call.query("name").ok_or_else(|| bad("name is missing"))?;
    let data = str::from_utf8(request.body()).map_err(|_| bad("the body is not UTF-8 text"))?;
    let trigger = Trigger {
        event: event_of(name.into(), data.into())?,
        channels: checked_channels(vec![channel])?,
        except: call.query("socket_id").and_then(Place::of_session_id),
        info: Info::default(),
    };
    let responder = request.reply_later();
    publish_all(
        hub,
        request.reactor,
        call.app(),
        vec![trigger],
        move |reactor, outcome| {
            let accepted = || json_reply((Status::ACCEPTED, "{}"));
            let reply = outcome.map_or_else(|reply| reply, |()| accepted());
            reactor.reply(responder, reply);
        },
    );
    Ok(())
}

fn text_of(body: &[u8]) -> Result<&str, Reply> {
    let text = str::from_utf8(body).map_err(|_| bad("the body is not UTF-8 text"))?;
    json::check_depth(text).map_err(|error| bad(&error.to_string()))?;
    Ok(text)
}

fn event_of<'i>(name: Cow<'i, str>, data: Cow<'i, str>) -> Result<Event<'i>, Reply> {
    if EVENT_BYTES_MAX < name.len() {
        let why = format!("name has more than {EVENT_BYTES_MAX} bytes");
        return Err(bad(&why));
    }
    if DATA_BYTES_MAX < data.len() {
        let why = format!("data has more than {DATA_BYTES_MAX} bytes\n");
        return Err((Status::CONTENT_TOO_LARGE, why).into());
    }
    let event = Event::try_new(name).map_err(|error| bad(&error.to_string()))?;
    Ok(event.data(data))
}

/// An encrypted event goes to one channel, because its key is the channel's.
fn checked_channels(channels: Vec<Cow<'_, str>>) -> Result<Vec<Cow<'_, str>>, Reply> {
    for name in &channels {
        let channel = Channel::parse(name).map_err(|error| bad(&format!("{name:?}: {error}")))?;
        if channel.kind() == ChannelKind::Encrypted && 1 < channels.len() {
            return Err(bad("an event of an encrypted channel goes to one channel"));
        }
    }
    Ok(channels)
}

impl<'i> Trigger<'i> {
    /// Reads the object of an event.
    ///
    /// # Errors
    ///
    /// The answer 400 or 413.
    fn parse(text: &'i str) -> Result<Trigger<'i>, Reply> {
        let missing = |field: &str| bad(&format!("{field} is missing, or no text"));
        let names = &["name", "data", "channels", "channel", "socket_id", "info"];
        let fields = json::fields(text, names).map_err(|error| bad(&error.to_string()))?;
        let [name, data, channels, channel, socket_id, info] = fields;
        let text = |field: Option<&'i RawValue>| field.and_then(json::string);
        let name = text(name).ok_or_else(|| missing("name"))?;
        let data = text(data).ok_or_else(|| missing("data"))?;
        let channels = match (channels, channel) {
            (Some(list), _) => json::elements(list.get(), CHANNELS_MAX)
                .map_err(|error| bad(&format!("channels: {error}")))?,
            (None, Some(one)) => vec![one],
            (None, None) => return Err(missing("channels")),
        };
        let channels: Option<Vec<_>> = channels.into_iter().map(json::string).collect();
        let channels = channels.ok_or_else(|| missing("a channel"))?;
        Ok(Trigger {
            event: event_of(name, data)?,
            channels: checked_channels(channels)?,
            except: text(socket_id).and_then(|id| Place::of_session_id(&id)),
            info: Info::parse(text(info).as_deref())?,
        })
    }
}

/// Publishes events to their channels, and calls `done` once, when all have been, or when one could not be.
fn publish_all<S: 'static>(
    hub: &Parts<S>,
    reactor: &mut Reactor<S>,
    app: &PusherApp,
    triggers: Vec<Trigger<'_>>,
    done: impl FnOnce(&mut Reactor<S>, Result<(), Reply>) + 'static,
) {
    let count: usize = triggers.iter().map(|it| it.channels.len()).sum();
    if count == 0 {
        return done(reactor, Ok(()));
    }
    let pending = Rc::new(RefCell::new((count, Some(done))));
    for trigger in triggers {
        for channel in &trigger.channels {
            let pending_here = Rc::clone(&pending);
            let one_done = move |reactor: &mut Reactor<S>, outcome: Result<(), Reply>| {
                let mut pending = pending_here.borrow_mut();
                pending.0 -= 1;
                if pending.0 == 0 || outcome.is_err() {
                    let done = pending.1.take();
                    drop(pending);
                    if let Some(done) = done {
                        done(reactor, outcome);
                    }
                }
            };
            let topic = topic_of(app.id(), channel);
            let (event, except) = (trigger.event.clone(), trigger.except);
            let when_published = one_done.clone();
            let published =
                (hub.engine).publish(reactor, &topic, event, except, move |reactor, outcome| {
                    let outcome = outcome.map(drop).map_err(|error| unavailable(&error));
                    when_published(reactor, outcome);
                });
            if let Err(error) = published {
                one_done(reactor, Err(unavailable(&error)));
            }
        }
    }
}

/// Calls `done` with the attributes of channels as JSON objects, each behind the name of its channel.
fn fields_of_all<S: 'static>(
    hub: &Rc<Parts<S>>,
    reactor: &mut Reactor<S>,
    app: &Rc<PusherApp>,
    of_channels: Vec<(String, Info)>,
    done: impl FnOnce(&mut Reactor<S>, Vec<(String, String)>) + 'static,
) {
    let count = of_channels.len();
    if count == 0 {
        return done(reactor, Vec::new());
    }
    let empty = vec![(String::new(), String::new()); count];
    let pending = Rc::new(RefCell::new((count, empty, Some(done))));
    for (index, (name, info)) in of_channels.into_iter().enumerate() {
        let pending = Rc::clone(&pending);
        let channel_name = name.clone();
        let add = move |reactor: &mut Reactor<S>, fields: String| {
            let mut all = pending.borrow_mut();
            all.1[index] = (name, object(&fields));
            all.0 -= 1;
            if all.0 == 0
                && let Some(done) = all.2.take()
            {
                let fields = std::mem::take(&mut all.1);
                drop(all);
                done(reactor, fields);
            }
        };
        match Channel::parse(&channel_name) {
            Ok(channel) => fields_of(hub, reactor, app, channel, info, add),
            Err(_) => add(reactor, String::new()),
        }
    }
}
