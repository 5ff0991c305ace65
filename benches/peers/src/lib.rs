//! What the servers share: their command line, a listener with a long backlog, and the answer to
//! a handshake for those that leave it to the application.

#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

use socket2::{Domain, Socket, Type};
use tungstenite::handshake::derive_accept_key;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;

/// The longest message that a server takes, in bytes: as much as `waterwheel echo`.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// `PORT [--to sender|all]`.
pub struct Arguments {
    pub port: u16,
    pub to_all: bool,
}

/// What the command line says; ends the program when it says something else.
pub fn arguments(can_send_to_all: bool) -> Arguments {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (port, to_all) = match words[..] {
        [port] | [port, "--to", "sender"] => (port, false),
        [port, "--to", "all"] if can_send_to_all => (port, true),
        _ => usage(can_send_to_all),
    };
    match port.parse() {
        Ok(port) => Arguments { port, to_all },
        Err(_) => usage(can_send_to_all),
    }
}

fn usage(can_send_to_all: bool) -> ! {
    let to = if can_send_to_all {
        "sender|all"
    } else {
        "sender"
    };
    eprintln!("expected PORT [--to {to}]");
    std::process::exit(2)
}

/// A listener on the loopback address that does not block.
///
/// # Errors
///
/// When the port cannot be had.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The bytes of a request's head at the start of `input`, once it is all there.
pub fn head_bytes(input: &[u8]) -> Option<usize> {
    input
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// The answer to an upgrade, or `None` when there is no key in the head. Nothing else is checked.
pub fn answer(head: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"sec-websocket-key:";
    let key = head.split(|byte| *byte == b'\n').find_map(|line| {
        let name = line.get(..NAME.len())?;
        name.eq_ignore_ascii_case(NAME)
            .then(|| line[NAME.len()..].trim_ascii())
    })?;
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key)
    ))
}
