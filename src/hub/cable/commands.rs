//! The commands of clients. Those of a connection with a hook are carried out one after the other.

use std::rc::Rc;

use crate::protocol::action_cable::message::{self, Command, HistoryRequest, Identifier, Present};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::Reactor;

use crate::hub::parts::Parts;

use super::channels::{self, Channels};
use super::client::{Kind, Streams, Subscription};
use super::extended;
use super::hooked::Hooked;
use super::keys::{Named, PUBSUB};
use super::state::Cable;
use super::subscription::{self, reject};

/// The longest identifier of a subscription, in bytes. Each is kept as long as it is used.
const IDENTIFIER_BYTES_MAX: usize = 2048;

/// The code with which a client is closed that sends too much before it is answered.
const POLICY_VIOLATION: u16 = 1008;

/// The commands of the clients of a hub on one reactor.
pub(super) struct Commands<S: 'static> {
    hub: Rc<Parts<S>>,
    cable: Rc<Cable<S>>,
}

impl<S: 'static> Clone for Commands<S> {
    fn clone(&self) -> Self {
        Commands {
            hub: Rc::clone(&self.hub),
            cable: Rc::clone(&self.cable),
        }
    }
}

/// The thing that an identifier asks for.
enum Wanted {
    Stream(Streams, Kind),
    /// A channel of the application.
    Channel,
}

impl<S: 'static> Commands<S> {
    pub(super) fn new(hub: &Rc<Parts<S>>, cable: &Rc<Cable<S>>) -> Commands<S> {
        Commands {
            hub: Rc::clone(hub),
            cable: Rc::clone(cable),
        }
    }

    /// Asks the application whether a client may connect. `then` gets whether it may.
    pub(super) fn connect(
        &self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        hooked: &Rc<Hooked>,
        then: impl FnOnce(&mut Reactor<S>, bool) + 'static,
    ) {
        let go_on = self.begin_call(reactor, id, hooked);
        self.with_channels(id, hooked, |channels| {
            let (cable, refused) = (Rc::clone(&self.cable), Rc::clone(hooked));
            channels.connect(reactor, move |reactor, is_ok| {
                if !is_ok {
                    refused.set_refused();
                    cable.clients().remove(id);
                }
                then(reactor, is_ok);
                go_on(reactor);
            });
        });
    }

    /// Carries out a command, or keeps it until the call before has been answered.
    pub(super) fn take(&self, reactor: &mut Reactor<S>, id: ConnId, text: &str) {
        match self.hooked(id).filter(|hooked| hooked.is_busy()) {
            None => self.carry_out(reactor, id, text),
            Some(hooked) => {
                if !hooked.wait(text) {
                    reactor.close_with(id, POLICY_VIOLATION, "too many commands");
                }
            }
        }
    }

    /// A connection with a hook has ended, with these subscriptions of its channels.
    pub(super) fn end(
        &self,
        reactor: &mut Reactor<S>,
        hooked: Rc<Hooked>,
        identifiers: impl Iterator<Item = Box<str>>,
    ) {
        hooked.set_leaving(identifiers);
        if !hooked.is_busy() {
            self.leave(reactor, hooked);
        }
    }

    fn leave(&self, reactor: &mut Reactor<S>, hooked: Rc<Hooked>) {
        if let Some(calls) = self.cable.calls() {
            channels::leave(&self.hub, calls, reactor, hooked);
        }
    }

    fn hooked(&self, id: ConnId) -> Option<Rc<Hooked>> {
        let clients = self.cable.clients();
        clients.get(id)?.hooked().cloned()
    }

    fn with_channels(&self, id: ConnId, hooked: &Rc<Hooked>, call: impl FnOnce(&Channels<'_, S>)) {
        if let Some(calls) = self.cable.calls() {
            call(&Channels {
                hub: &self.hub,
                cable: &self.cable,
                calls,
                hooked,
                id,
            });
        }
    }

    /// Begins a call: the connection is not read meanwhile. Returns what to call when it has ended.
    fn begin_call(
        &self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        hooked: &Rc<Hooked>,
    ) -> impl FnOnce(&mut Reactor<S>) + 'static + use<S> {
        hooked.set_busy(true);
        reactor.pause(id);
        let (commands, hooked) = (self.clone(), Rc::clone(hooked));
        move |reactor| commands.go_on(reactor, id, hooked)
    }

    /// Goes on with the commands that have waited.
    fn go_on(&self, reactor: &mut Reactor<S>, id: ConnId, hooked: Rc<Hooked>) {
        hooked.set_busy(false);
        if self.cable.clients().get(id).is_none() {
            return self.leave(reactor, hooked);
        }
        while !hooked.is_busy()
            && let Some(text) = hooked.next_waiting()
        {
            self.carry_out(reactor, id, &text);
        }
        if !hooked.is_busy() {
            reactor.resume(id);
        }
    }

    fn carry_out(&self, reactor: &mut Reactor<S>, id: ConnId, text: &str) {
        match message::parse(text) {
            Ok(Command::Subscribe {
                identifier,
                history,
                presence,
            }) => {
                self.subscribe(reactor, id, &identifier, history);
                if let Some(presence) = presence {
                    self.join(reactor, id, &identifier, &presence);
                }
            }
            Ok(Command::Unsubscribe { identifier }) => {
                let ended = subscription::end(&self.cable, reactor, id, &identifier);
                if ended.is_some_and(|it| it.is_of_hook)
                    && let Some(hooked) = self.hooked(id)
                {
                    let go_on = self.begin_call(reactor, id, &hooked);
                    self.with_channels(id, &hooked, |channels| {
                        channels.unsubscribe(reactor, &identifier, go_on);
                    });
                }
            }
            Ok(Command::Message { identifier, data }) => {
                let is_of_hook = self.find(id, &identifier).is_some_and(|it| it.1);
                match self.hooked(id).filter(|_| is_of_hook) {
                    Some(hooked) => {
                        let go_on = self.begin_call(reactor, id, &hooked);
                        self.with_channels(id, &hooked, |channels| {
                            channels.perform(reactor, &identifier, &data, go_on);
                        });
                    }
                    None => log::debug!("conn {id}: a message for no channel of the application"),
                }
            }
            Ok(Command::History {
                identifier,
                history,
            }) => {
                let (hub, cable) = (&self.hub, &self.cable);
                subscription::replay(hub, cable, reactor, id, &identifier, history);
            }
            Ok(Command::Whisper { identifier, data }) => {
                let streams = self.streams_of(id, &identifier, |it| it.has_whispers);
                for stream in streams.iter().flat_map(|it| it.iter()) {
                    extended::whisper(&self.hub, reactor, id, stream, data);
                }
            }
            Ok(Command::Join {
                identifier,
                presence,
            }) => self.join(reactor, id, &identifier, &presence),
            Ok(Command::Leave { identifier }) => {
                let streams = self.streams_of(id, &identifier, |it| !it.is_of_hook);
                for stream in streams.iter().flat_map(|it| it.iter()) {
                    reactor.leave_presence(id, stream);
                }
            }
            Ok(Command::Presence { identifier }) => {
                let streams = self.streams_of(id, &identifier, |it| !it.is_of_hook);
                if let Some(stream) = streams.as_ref().and_then(|it| it.first()) {
                    extended::send_present(reactor, id, &identifier, stream);
                }
            }
            Ok(Command::Pong) => {}
            Err(error) => log::debug!("conn {id}: no command of ActionCable: {error}"),
        }
    }

    /// Whether a subscription of a client is confirmed, and whether it is one of a channel. `None` where there is none.
    fn find(&self, id: ConnId, identifier: &str) -> Option<(bool, bool)> {
        let number = self.cable.identifiers().borrow().find(identifier)?;
        let clients = self.cable.clients();
        let found = clients.get(id)?.find(number)?;
        Some((found.is_confirmed, found.is_of_hook))
    }

    /// The streams of a subscription for which `is_right` is true. While it is pending those that it has so far.
    fn streams_of(
        &self,
        id: ConnId,
        identifier: &str,
        is_right: fn(&Subscription) -> bool,
    ) -> Option<Streams> {
        let number = self.cable.identifiers().borrow().find(identifier)?;
        let clients = self.cable.clients();
        let found = clients.get(id)?.find(number)?;
        is_right(found).then(|| Rc::clone(&found.streams))
    }

    /// Makes a client present in the streams of a subscription.
    fn join(&self, reactor: &mut Reactor<S>, id: ConnId, identifier: &str, present: &Present) {
        let streams = self.streams_of(id, identifier, |it| !it.is_of_hook);
        for stream in streams.iter().flat_map(|it| it.iter()) {
            if let Err(why) = extended::join(reactor, id, stream, present) {
                log::debug!("conn {id}: it is not present: {why}");
            }
        }
    }

    /// Answers `subscribe`.
    fn subscribe(
        &self,
        reactor: &mut Reactor<S>,
        id: ConnId,
        identifier: &str,
        history: Option<HistoryRequest>,
    ) {
        if IDENTIFIER_BYTES_MAX < identifier.len() {
            let bytes = identifier.len();
            log::debug!("conn {id}: an identifier of {bytes} bytes");
            return;
        }
        // Clients ask again every half second until there is an answer.
        if let Some((is_confirmed, _)) = self.find(id, identifier) {
            if is_confirmed {
                reactor.send(id, message::confirmation(identifier));
            }
            return;
        }
        match self.wanted(reactor, identifier) {
            Ok(Wanted::Stream(streams, kind)) => {
                let (hub, cable) = (&self.hub, &self.cable);
                let wanted = subscription::Wanted {
                    streams,
                    kind,
                    history,
                };
                subscription::begin(hub, cable, reactor, id, identifier, wanted);
            }
            Ok(Wanted::Channel) => match self.hooked(id) {
                Some(hooked) => {
                    let go_on = self.begin_call(reactor, id, &hooked);
                    self.with_channels(id, &hooked, |channels| {
                        channels.subscribe(reactor, identifier, go_on);
                    });
                }
                None => reject(reactor, id, identifier, &"there is no such channel"),
            },
            Err(why) => reject(reactor, id, identifier, &why),
        }
    }

    /// The streams or the channel of an identifier.
    ///
    /// # Errors
    ///
    /// The reason why the client has no right to them.
    fn wanted(&self, reactor: &Reactor<S>, identifier: &str) -> Result<Wanted, String> {
        let identifier = Identifier::parse(identifier).map_err(|error| error.to_string())?;
        let now_unix = reactor.system_unix_time();
        let named = self.cable.keys().stream_of(&identifier, now_unix);
        let rules = &self.hub.options.rules;
        let (stream, has_whispers) = match named.map_err(|error| error.to_string())? {
            Named::Signed(stream) => {
                let is_pubsub = identifier.channel == PUBSUB;
                let may_publish = is_pubsub && rules.of(&stream).clients_publish;
                (stream, may_publish)
            }
            Named::Plain(_) if !self.cable.is_open() => {
                return Err("plain names of streams are not allowed".to_owned());
            }
            Named::Plain(stream) => match rules.of(&stream).is_private {
                true => return Err("the stream is private".to_owned()),
                false => (stream, true),
            },
            Named::Channel => return Ok(Wanted::Channel),
        };
        let kind = match has_whispers {
            true => Kind::Whispering,
            false => Kind::Stream,
        };
        Ok(Wanted::Stream([stream.into_boxed_str()].into(), kind))
    }
}
