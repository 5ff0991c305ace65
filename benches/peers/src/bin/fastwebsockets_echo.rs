//! fastwebsockets on a current-thread runtime, with the echo loop of its own example; the
//! handshake is made here, which costs less than hyper's.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io;

use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use waterwheel_peers::{MESSAGE_BYTES_MAX, answer, arguments, head_bytes, listen};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = TcpListener::from_std(listen(arguments(false).port)?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(tokio::task::unconstrained(async {
            // Who ends in an error has ended.
            let _ = echo(stream).await;
        }));
    }
}

async fn echo(mut stream: TcpStream) -> Result<(), Box<dyn Error>> {
    shake_hands(&mut stream).await?;
    let mut socket = WebSocket::after_handshake(stream, Role::Server);
    socket.set_max_message_size(MESSAGE_BYTES_MAX);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

// A client sends nothing before the answer, so nothing comes behind the head.
async fn shake_hands(stream: &mut TcpStream) -> Result<(), Box<dyn Error>> {
    let mut head = Vec::with_capacity(1024);
    while head_bytes(&head).is_none() {
        if stream.read_buf(&mut head).await? == 0 {
            return Err("closed within the head".into());
        }
    }
    let answer = answer(&head).ok_or("no key")?;
    stream.write_all(answer.as_bytes()).await?;
    Ok(())
}
