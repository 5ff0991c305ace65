//! Listening, for the roles that accept; and the register of handlers.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::admission::HANDSHAKES_BACKOFF;
use super::id::{ConnId, ListenerId};
use super::reactor::{Cx, Handler, Reactor};
use super::transport::endpoint::ListenOptions;
use super::transport::listener::{self, Accepting, Acceptor, Address, Listener, Wanted};
use super::transport::memory::{MemoryListener, MemoryStream, Net};

/// The first port that a simulation gives to a listener on port 0. Source: RFC 6335, section 6, the
/// dynamic ports.
const FIRST_MEMORY_PORT: u16 = 49_152;

/// # Listeners and the loop
impl<S: 'static> Reactor<S> {
    /// Returns the address of a listener, with the port that the kernel chose for port 0. `None`
    /// when the listener is closed.
    pub fn local_addr(&self, listener: ListenerId) -> Option<Address> {
        self.table
            .sources()
            .listener(listener)
            .map(|listener| listener.address().clone())
    }

    /// Stops listening; accepted connections stay open. Returns `false` when the listener was
    /// closed before.
    ///
    /// Clients that wait in the kernel's backlog are reset, unless another process listens on the same socket. Your callbacks are dropped, with
    /// everything that they hold, after the last of their connections has ended.
    pub fn close_listener(&mut self, listener: ListenerId) -> bool {
        match self.table.remove_listener(listener) {
            Some(closed) => {
                self.handler_keys.close(closed.handler());
                true
            }
            None => false,
        }
    }

    /// Returns another descriptor of a listener's socket, for a process that shall listen there too, or after this
    /// one: connections that wait in the kernel's backlog belong to the socket, so none of them is lost. A
    /// [`ListenOptions`] can be made of it.
    ///
    /// # Errors
    ///
    /// When the listener is closed, in a simulation, or when the process is out of descriptors.
    #[cfg(unix)]
    pub fn duplicate_listener(&self, listener: ListenerId) -> io::Result<std::os::fd::OwnedFd> {
        match self.table.sources().listener(listener) {
            Some(listener) => listener.duplicate(),
            None => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the listener is closed",
            )),
        }
    }

    /// As [`close_listener`](Self::close_listener), after another process has got the socket: the file of a Unix
    /// socket is not removed.
    #[cfg(unix)]
    pub fn leave_listener(&mut self, listener: ListenerId) -> bool {
        if let Some(open) = self.open_listener_mut(listener) {
            open.leave_file();
        }
        self.close_listener(listener)
    }

    /// Makes the file of an inherited Unix socket belong to this listener: it is removed when the listener is closed.
    /// For a process that stays alone with the socket, after the one that made the file has
    /// [left](Self::leave_listener) it. Returns `false` when the listener is closed, has no file, or its file cannot
    /// be found.
    #[cfg(unix)]
    pub fn adopt_listener_file(&mut self, listener: ListenerId) -> bool {
        self.open_listener_mut(listener)
            .is_some_and(Listener::adopt_file)
    }

    /// Accepts nothing on a listener until [`resume_listener`](Self::resume_listener): clients wait in the kernel's
    /// backlog, or are accepted by another process that has the same socket. Returns `false` when the listener is
    /// closed.
    pub fn pause_listener(&mut self, listener: ListenerId) -> bool {
        let open = self.open_listener_mut(listener);
        open.map(|listener| listener.set_accepting(Accepting::Held))
            .is_some()
    }

    /// Accepts again on a listener after [`pause_listener`](Self::pause_listener), first those who wait. Returns
    /// `false` when the listener is closed.
    pub fn resume_listener(&mut self, listener: ListenerId) -> bool {
        let Some(open) = self.open_listener_mut(listener) else {
            return false;
        };
        if open.accepting() == Accepting::Held {
            open.set_accepting(Accepting::Ready);
            // The poll has reported clients who came meanwhile, and does not report them again.
            self.table.accept_again(listener.0.index);
        }
        true
    }

    fn open_listener_mut(&mut self, listener: ListenerId) -> Option<&mut Listener> {
        self.local_addr(listener)?;
        self.table.sources_mut().listener_mut(listener.0.index)
    }

    /// Listens on an address. `handler` gets the real address, which port 0 leaves open until then,
    /// and returns the object that is called for the connections.
    ///
    /// # Errors
    ///
    /// When the address cannot be parsed or bound; the error's text names it. When the reactor has stopped.
    pub(crate) fn listen(
        &mut self,
        options: &ListenOptions<'_>,
        connection_options: u16,
        handler: impl FnOnce(&Address) -> Box<dyn Handler<S>>,
    ) -> io::Result<ListenerId> {
        if self.is_stopped {
            let address = options.address();
            let why = format!("cannot listen on {address}: the reactor has stopped");
            return Err(io::Error::other(why));
        }
        let (acceptor, address) = match (options.inherited(), &self.net) {
            (None, Some(net)) => self.bind_in_memory(options.address(), net)?,
            (None, None) => listener::bind(options.address(), &self.config)?,
            (Some(inherited), None) => inherited
                .acceptor(&self.config)
                .map_err(|error| listener::cannot_listen(options.address(), &error))?,
            (Some(_), Some(_)) => {
                let why = io::Error::new(
                    io::ErrorKind::Unsupported,
                    "a simulation has no sockets of the kernel",
                );
                return Err(listener::cannot_listen(options.address(), &why));
            }
        };
        let key = self.add_handler(handler(&address));
        let mut listener = Listener::new(acceptor, address.clone(), key, connection_options);
        listener.set_proxy_protocol(options.has_proxy_protocol());
        #[cfg(feature = "tls")]
        listener.set_tls(options.server_tls().cloned());
        match self.table.insert_listener(Box::new(listener)) {
            Ok(id) => {
                log::info!("listening on {address}");
                Ok(id)
            }
            Err(error) => {
                self.free_handler(key);
                Err(error)
            }
        }
    }

    /// Makes a listener accept until the end of a drain's window. Others are closed when a drain begins.
    ///
    /// For a protocol whose connections can be served and ended within the window, as a request can.
    pub(crate) fn listen_while_draining(&mut self, listener: ListenerId) {
        if let Some(listener) = self.table.sources_mut().listener_mut(listener.0.index) {
            listener.set_accepts_while_draining();
        }
    }

    /// Adds a handler and returns its key, which connections can name at once.
    ///
    /// The object waits on a list. The loop's own handlers cannot be reached from here, because one
    /// of them may be the caller; the loop adopts new ones before it calls the next.
    pub(crate) fn add_handler(&mut self, handler: Box<dyn Handler<S>>) -> u32 {
        let key = self.handler_keys.insert();
        self.new_handlers.push((key, handler));
        key
    }

    /// Frees the key of a handler that was not called yet, or whose object has been dropped.
    pub(crate) fn free_handler(&mut self, key: u32) {
        self.new_handlers.retain(|(new, _)| *new != key);
        self.handler_keys.remove(key);
    }

    /// Drops a handler at the end of the turn: a client with many connections, one after the other, has ended.
    pub(crate) fn drop_handler(&mut self, key: u32) {
        self.handler_keys.close(key);
    }

    /// Pauses accepting on a listener: until a connection ends, at `connections_max`, or for the time of
    /// `backoff`, for example when the process is out of file descriptors.
    ///
    /// The kernel keeps new clients in its backlog meanwhile, so they are served later instead of
    /// being refused. With a level-triggered poll the listener would be reported again and again
    /// and the loop would spin at 100 %; edge-triggered readiness is reported once, so accepting
    /// has to go on by itself: when a connection is removed, or after `backoff`. Pauses are
    /// logged once a minute, because each client that comes to a full server and goes causes one.
    pub(super) fn pause_accepting(&mut self, index: u32, why: &str, backoff: Option<Duration>) {
        self.table.stats_mut().accept_pauses += 1;
        let connection_count = self.table.sources().connection_count();
        let now = self.now();
        let Some(listener) = self.table.sources_mut().listener_mut(index) else {
            return;
        };
        // An `on_open` of this turn may have paused it.
        if listener.accepting() == Accepting::Held {
            return;
        }
        if let Some(suppressed) = listener.note_pause(now) {
            log::warn!(
                "{}: accepting pauses at {connection_count} connections: {why}{suppressed}",
                listener.address(),
            );
        }
        let Some(backoff) = backoff else {
            listener.set_accepting(Accepting::Full);
            return self.table.ready_list_mut().accept_when_room(index);
        };
        listener.set_accepting(Accepting::BackingOff);
        let id = ListenerId(ConnId {
            index,
            generation: listener.generation(),
        });
        // By a timer, because a descriptor may become free without an end of one of our
        // connections: the limit counts files of the whole process (EMFILE) or system (ENFILE).
        self.after(backoff, move |cx: &mut Cx<'_, S>| {
            // The listener may have been closed meanwhile, and its index taken by another source.
            if cx.reactor.local_addr(id).is_some() {
                cx.reactor.table.accept_again(index);
            }
        });
    }

    /// Whether accepting pauses because memory is short. At the end of such a pause the connections
    /// that hold most are ended instead, so that clients cannot keep others out by holding what
    /// they have.
    pub(super) fn pauses_for_memory(&mut self, index: u32) -> bool {
        let is_short = self.table.is_short_of_memory();
        let Some(listener) = self.table.sources_mut().listener_mut(index) else {
            return false;
        };
        let has_paused = listener.replace_memory_pause(is_short);
        if !is_short {
            return false;
        }
        if has_paused {
            self.release_memory();
            if !self.table.is_over_memory() {
                return false;
            }
        }
        self.table.stats_mut().memory_pauses += 1;
        let backoff = self.config.accept_backoff;
        let why = "`memory_bytes_max` is nearly used up";
        self.pause_accepting(index, why, Some(backoff));
        true
    }

    /// Whether accepting pauses because all clients together have made as many connections in this second as
    /// `handshakes_per_second_total_max` allows.
    ///
    /// A pause and not a refusal: those who wait in the kernel's backlog are served in the next second, and an
    /// `EventSource` that is refused with a status gives up for ever. A refusal would also cost about as much as
    /// the handshake that it saves. Clients on this machine have their own listener if they must not wait.
    pub(super) fn pauses_for_handshakes(&mut self, index: u32) -> bool {
        if self.config.handshakes_per_second_total_max.is_none() {
            return false;
        }
        let listener = self.table.sources_mut().listener_mut(index);
        let is_exempt = listener.is_none_or(|listener| listener.is_local());
        if is_exempt || !self.is_over_handshakes() {
            return false;
        }
        self.table.stats_mut().handshake_pauses += 1;
        let why = "as many connections in this second as `handshakes_per_second_total_max` allows";
        self.pause_accepting(index, why, Some(HANDSHAKES_BACKOFF));
        true
    }

    // ── in a simulation ──────────────────────────────────────────────────────────────────────

    /// Binds a simulated listener: a Unix socket to its path, all others to ports of one machine,
    /// whatever their host. A path or port that is in use is refused as by the kernel, so that a
    /// test finds the mistake.
    fn bind_in_memory(&self, address: &str, net: &Rc<Net>) -> io::Result<(Acceptor, Address)> {
        Wanted::parse(address)
            .and_then(|wanted| self.free_memory_address(&wanted))
            .map(|address| (Acceptor::Memory(MemoryListener::new(net)), address))
            .map_err(|error| listener::cannot_listen(address, &error))
    }

    fn free_memory_address(&self, wanted: &Wanted<'_>) -> io::Result<Address> {
        let at = |port: u16| Address::Inet(([127, 0, 0, 1], port).into());
        let is_free = |address: &Address| self.memory_listener(|taken| taken == address).is_none();
        let (address, may_share) = match *wanted {
            Wanted::Unix(path) => (Address::Unix(path.into()), false),
            Wanted::Tcp(0) => {
                let free = (FIRST_MEMORY_PORT..=u16::MAX).map(at).find(is_free);
                return free.ok_or_else(|| io::ErrorKind::AddrInUse.into());
            }
            Wanted::Tcp(port) => (at(port), self.config.reuse_port),
        };
        match may_share || is_free(&address) {
            true => Ok(address),
            false => Err(io::ErrorKind::AddrInUse.into()),
        }
    }

    /// The index of the first simulated listener for whose address `is_it` returns `true`.
    pub(super) fn memory_listener(&self, is_it: impl Fn(&Address) -> bool) -> Option<u32> {
        self.table
            .sources()
            .find_listener(|listener| is_it(listener.address()))
    }

    /// Connects a simulated client.
    pub(super) fn offer(&mut self, listener: u32, stream: MemoryStream) {
        if let Some(listener) = self.table.sources_mut().listener_mut(listener) {
            listener.offer(stream);
        }
    }
}
