//! sockudo-ws on a current-thread runtime, with the echo loop of its own example.

#![forbid(unsafe_code)]

use std::io;

use futures_util::{SinkExt, StreamExt};
use sockudo_ws::handshake::server_handshake;
use sockudo_ws::protocol::Message;
use sockudo_ws::{Config, WebSocketStream};
use tokio::net::{TcpListener, TcpStream};
use waterwheel_peers::{MESSAGE_BYTES_MAX, arguments, listen};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = TcpListener::from_std(listen(arguments(false).port)?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async {
            // Who ends in an error has ended.
            let _ = echo(stream).await;
        });
    }
}

async fn echo(mut stream: TcpStream) -> sockudo_ws::error::Result<()> {
    server_handshake(&mut stream).await?;
    let config = Config::builder()
        .max_payload_length(MESSAGE_BYTES_MAX)
        .build();
    let mut socket = WebSocketStream::server(stream, config);
    while let Some(message) = socket.next().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    Ok(())
}
