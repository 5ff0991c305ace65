//! mio with tungstenite's `WebSocket<TcpStream>`, as one would write it at first: read until there
//! is nothing left, answer each message as it comes.
//!
//! Its read buffer is 4 KiB, for tungstenite's own 128 KiB are zeroed at every read.

#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tungstenite::handshake::MidHandshake;
use tungstenite::handshake::server::{NoCallback, ServerHandshake};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, HandshakeError, Message, WebSocket, accept_with_config};
use waterwheel_peers::{MESSAGE_BYTES_MAX, arguments, listen};

const READ_BUFFER_BYTES: usize = 4096;

const LISTENER: Token = Token(usize::MAX);

enum Connection {
    Shakes(Box<MidHandshake<ServerHandshake<TcpStream, NoCallback>>>),
    Open(Box<WebSocket<TcpStream>>),
}

/// By token; ends are `None` until a new connection takes their place.
struct Connections {
    places: Vec<Option<Connection>>,
    free: Vec<usize>,
}

fn main() -> io::Result<()> {
    let arguments = arguments(true);
    let mut listener = TcpListener::from_std(listen(arguments.port)?);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut connections = Connections {
        places: Vec::new(),
        free: Vec::new(),
    };
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        if let Err(error) = poll.poll(&mut events, None) {
            if error.kind() == ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections)?;
            } else {
                connections.advance(event.token().0, arguments.to_all);
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Connections) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let index = connections.free.pop().unwrap_or_else(|| {
            connections.places.push(None);
            connections.places.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(index), interest)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        connections.keep(index, accept_with_config(stream, Some(config)));
    }
}

impl Connections {
    fn keep(
        &mut self,
        index: usize,
        outcome: Result<
            WebSocket<TcpStream>,
            HandshakeError<ServerHandshake<TcpStream, NoCallback>>,
        >,
    ) {
        match outcome {
            Ok(socket) => self.places[index] = Some(Connection::Open(Box::new(socket))),
            Err(HandshakeError::Interrupted(handshake)) => {
                self.places[index] = Some(Connection::Shakes(Box::new(handshake)));
            }
            Err(HandshakeError::Failure(_)) => self.end(index),
        }
    }

    fn end(&mut self, index: usize) {
        self.places[index] = None;
        self.free.push(index);
    }

    fn advance(&mut self, index: usize, to_all: bool) {
        if matches!(&self.places[index], Some(Connection::Shakes(_)))
            && let Some(Connection::Shakes(handshake)) = self.places[index].take()
        {
            self.keep(index, handshake.handshake());
        }
        while let Some(Connection::Open(socket)) = &mut self.places[index] {
            match socket.read() {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                    if to_all {
                        self.send_to_all(&message);
                    } else if is_lost(socket.send(message)) {
                        return self.end(index);
                    }
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    // What did not fit into the socket before.
                    if is_lost(socket.flush()) {
                        self.end(index);
                    }
                    return;
                }
                Err(_) => return self.end(index),
            }
        }
    }

    // Whose connection is lost is told so by its own readiness.
    fn send_to_all(&mut self, message: &Message) {
        for place in self.places.iter_mut().flatten() {
            if let Connection::Open(socket) = place {
                let _ = socket.send(message.clone());
            }
        }
    }
}

fn is_lost(outcome: Result<(), Error>) -> bool {
    match outcome {
        Ok(()) => false,
        Err(Error::Io(error)) => error.kind() != ErrorKind::WouldBlock,
        Err(_) => true,
    }
}
